"""The lab's Hydra plugins; Hydra finds them here by the name of the folder above."""
