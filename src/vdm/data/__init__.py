"""Data sets as LightningDataModules."""

from vdm.data.base import InMemoryData
from vdm.data.batches import OrderedBatches, ShuffledBatches
from vdm.data.cifar10 import CIFAR10
from vdm.data.digits import Digits
from vdm.data.mnist import MNIST, FashionMNIST
from vdm.data.split import Split
from vdm.data.toy import Toy

__all__ = [
    "CIFAR10",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "InMemoryData",
    "OrderedBatches",
    "ShuffledBatches",
    "Split",
    "Toy",
]
