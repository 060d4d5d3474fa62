"""Speed, measured against the machine's own limit and against what people write by hand."""

import vae_lab  # noqa: F401  (sets what OpenMP reads when torch is imported, as `vae-lab train` does)
