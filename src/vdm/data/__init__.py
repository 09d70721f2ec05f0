"""Data sets as LightningDataModules."""

from vdm.data.base import InMemoryData
from vdm.data.batches import OrderedBatches, ShuffledBatches
from vdm.data.cifar10 import CIFAR10
from vdm.data.digits import Digits
from vdm.data.folder import ImageFolder
from vdm.data.imagenet import ImageNetArrays, ImageNetPictures
from vdm.data.mnist import MNIST, FashionMNIST
from vdm.data.split import Split
from vdm.data.toy import Toy

__all__ = [
    "CIFAR10",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "ImageNetArrays",
    "ImageNetPictures",
    "InMemoryData",
    "OrderedBatches",
    "ShuffledBatches",
    "Split",
    "Toy",
]
