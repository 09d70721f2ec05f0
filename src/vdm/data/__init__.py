"""Data sets: sources, and the DataModule that serves them."""

from vdm.data.batches import OrderedBatches, ShuffledBatches
from vdm.data.cifar10 import CIFAR10
from vdm.data.digits import Digits
from vdm.data.folder import ImageFolder
from vdm.data.imagenet import ImageNetArrays, ImageNetPictures
from vdm.data.mnist import MNIST, FashionMNIST
from vdm.data.module import DataModule
from vdm.data.source import ImageSource, NoData, Source
from vdm.data.split import Split
from vdm.data.toy import Toy
