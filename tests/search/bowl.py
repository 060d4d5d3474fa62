"""What searches without training look for in place of a loss: the bottom of a bowl."""

from vae_lab.jobs.search.engine import Order
from vae_lab.jobs.search.space import Dimension

RATE = Dimension("optimizer.lr", low=1e-4, high=1e-2, log=True)
SIZES = Dimension("model.latent_size", low=2, high=9, step=1)


def loss(order: Order) -> float:
    """A bowl around a rate of 1e-3 and size 6, that an epoch's noise-free curve comes down to."""
    rate, size = float(str(order.values["optimizer.lr"])), float(str(order.values["model.latent_size"]))
    return 100 + abs(rate - 1e-3) * 1e3 + abs(size - 6) + 20 / order.until
