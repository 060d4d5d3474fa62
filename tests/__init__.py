"""The tests of the lab; its package comes first, as it sets what OpenMP reads when PyTorch is imported."""

import vae_lab  # noqa: F401
