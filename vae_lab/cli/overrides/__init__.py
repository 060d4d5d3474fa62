"""The line after `train`: read, checked before Hydra composes it, helped; and what Hydra raises, in words."""
