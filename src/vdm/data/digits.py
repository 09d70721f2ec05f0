"""The handwritten digits bundled with scikit-learn: 1,797 grey images of 8×8 with 17 levels."""

from collections.abc import Sequence

import numpy as np
import torch

from vdm.data.source import ImageSource
from vdm.data.split import Split


class Digits(ImageSource):
    """Optical recognition of handwritten digits (Alpaydin & Kaynak 1998), the test set of the UCI release.

    ``numpy.random.RandomState(0).permutation(1797)`` orders the images; 1,350 train, 150 validate, 297 test. No download.

    Args:
        labels: yield the classes 0 … 9 as conditions.
    """

    name = "digits"
    release = "scikit-learn's, the test set of UCI's"
    levels = 17

    def __init__(self, event_shape: Sequence[int], labels: bool = False) -> None:
        super().__init__(event_shape)
        self.labels = labels

    def load(self) -> dict[str, Split]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.RandomState(0).permutation(1797)
        x = torch.from_numpy(digits.images[order].astype(np.uint8))[:, None]
        label = torch.from_numpy(digits.target[order])
        cuts = {"train": slice(0, 1350), "val": slice(1350, 1500), "test": slice(1500, 1797)}
        return {name: Split(x[cut], label[cut] if self.labels else None) for name, cut in cuts.items()}
