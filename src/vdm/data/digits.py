"""The handwritten digits bundled with scikit-learn: 1,797 grey images of 8×8 with 17 levels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData
from vdm.data.split import Split
from vdm.plots.images import image_grid


class Digits(InMemoryData):
    """Optical recognition of handwritten digits (Alpaydin & Kaynak 1998), the test set of the UCI release.

    ``numpy.random.RandomState(0).permutation(1797)`` orders the images; 1,350 train, 150 validate, 297 test. No
    download. The condition, if asked for, is the class 0 … 9.
    """

    name = "digits"
    release = "scikit-learn's, the test set of UCI's"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed, workers, device)
        self.labels = labels

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=17)

    def load(self) -> dict[str, Split]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.RandomState(0).permutation(1797)
        x = torch.from_numpy(digits.images[order].astype(np.uint8))[:, None]
        label = torch.from_numpy(digits.target[order])
        cuts = {"train": slice(0, 1350), "val": slice(1350, 1500), "test": slice(1500, 1797)}
        return {name: Split(x[cut], label[cut] if self.labels else None) for name, cut in cuts.items()}
