"""Data sets: found or fetched, checked, and handed out as tensors on the device."""

from vae_lab.data.batches import Batches, Images, binarized, in_order, one_hot
from vae_lab.data.sets import Dataset, digits, fashion_mnist, idx, mnist, only_read

__all__ = [
    "Batches",
    "Dataset",
    "Images",
    "binarized",
    "digits",
    "fashion_mnist",
    "idx",
    "in_order",
    "mnist",
    "one_hot",
    "only_read",
]
