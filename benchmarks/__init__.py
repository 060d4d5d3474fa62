"""Speed, measured against the machine's own limit and against what people write by hand.

Nothing here imports vae_lab: what the lab sets for itself must not reach those that it is compared with.
"""
