"""Data sets: fetched and checked once, then tensors on the device."""

from vae_lab.data.arrays import Dataset, dataset
from vae_lab.data.batches import Batches, Images, binarized, in_order, one_hot
from vae_lab.data.sets import digits, fashion_mnist, idx, mnist, needs_no_download

__all__ = [
    "Batches",
    "Dataset",
    "Images",
    "binarized",
    "dataset",
    "digits",
    "fashion_mnist",
    "idx",
    "in_order",
    "mnist",
    "needs_no_download",
    "one_hot",
]
