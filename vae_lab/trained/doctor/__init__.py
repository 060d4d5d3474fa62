"""The doctor: recomputes with the lab's own formulas what a run, or any torch VAE, says of itself.

- `subject`: a VAE as a few functions and images.
- `calls`, `torch_module`: any torch module as a subject.
- `lab_model`, `stored`: a model and a run of the lab's.
- `probes`: a loss as a black box, taken apart by outputs and posteriors that are made up.
- `loss`, `latent`, `sampling`, `pixels`, `training`: the checks.
- `catalogue`: what can be found, with remedies and public threads.
- `findings`: what was found.
- `audit`: every check that a subject allows.
"""
