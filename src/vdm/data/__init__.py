"""Data sets as LightningDataModules."""

from vdm.data.base import InMemoryData, Split
from vdm.data.batches import OrderedBatches, ShuffledBatches
from vdm.data.digits import Digits
from vdm.data.mnist import MNIST
from vdm.data.toy import Toy

__all__ = ["MNIST", "Digits", "InMemoryData", "OrderedBatches", "ShuffledBatches", "Split", "Toy"]
