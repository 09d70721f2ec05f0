"""A data set by itself: where its examples come from and how they are shown, without batches or devices."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from vdm.data.split import Split
from vdm.errors import InvalidInput
from vdm.plots.images import image_grid, labelled, tile

Rows = Mapping[str, Sequence[Tensor]]
"""Rows of a picture by label: examples (n, *event_shape) at each step in time."""


class Source(ABC):
    """A data set with the splits ``train``, ``val`` and ``test``.

    ``name`` and ``release`` identify the data; two releases of one data set have two names.

    Args:
        event_shape: shape of one example, against which the loaded examples are checked.
    """

    name: str
    release: str
    sizes: Mapping[str, int] | None = None  # number of examples of each split, for a source with this setting
    download = False  # whether to fetch missing files, for a source that can
    can_flip = False  # whether an example mirrored left to right is still an example
    labels: bool | None = None  # whether the splits have conditions; None: not known before they are loaded
    has_examples = True  # whether there are any; a model folder brings none

    def __init__(self, event_shape: Sequence[int]) -> None:
        if not event_shape or min(event_shape) < 1:
            raise InvalidInput(f"data.event_shape must be lengths of at least 1, got {[*event_shape]}")
        self.event_shape = tuple(event_shape)

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """Return the three splits; called once.

        Raises:
            InvalidInput: files that are missing, damaged or of other data.
        """

    @abstractmethod
    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        """Draw examples or samples (n, *event_shape) of ``levels`` integer levels; None: the data's own number."""

    def frames(self, rows: Rows, captions: Sequence[str], levels: int | None = None) -> Image.Image:
        """Draw examples (n, *event_shape) over time: one column for each caption, each row with its label."""
        return labelled(tile([[self.picture(x, levels) for x in row] for row in rows.values()]), captions, list(rows))

    def file_names(self, split: str) -> list[str]:
        """Return the names of a split's image files in their order; empty where images are not single files."""
        return []

    def log_prob(self, x: Tensor) -> Tensor | None:
        """Return log p(x) of examples in nats, (N,), or None where the density is unknown."""
        return None

    def provenance(self) -> dict[str, object]:
        """Return further facts on the data, to be stored beside every number."""
        return {}


class ImageSource(Source):
    """Images (C, H, W) of integer levels 0 … ``levels`` − 1."""

    levels = 256

    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        return image_grid(x, levels or self.levels)

    def frames(self, rows: Rows, captions: Sequence[str], levels: int | None = None) -> Image.Image:
        cells = torch.stack([torch.stack(list(row), 1) for row in rows.values()], 1)  # (n, rows, columns, *event)
        grid = image_grid(cells.flatten(0, 2), levels or self.levels, columns=len(captions))
        return labelled(grid, captions, list(rows) * len(cells))


class NoData(ImageSource):
    """The place of the data of an exported model, which brings none: shape and levels only.

    Args:
        levels: K, or 0 for real numbers.
    """

    name, release, has_examples = "no data", "none", False

    def __init__(self, event_shape: Sequence[int], levels: int) -> None:
        super().__init__(event_shape)
        self.levels = levels

    def load(self) -> dict[str, Split]:
        raise InvalidInput("a model folder brings no data: add data=… to the command, such as data=cifar10")

    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        known = levels or self.levels
        return image_grid(x, known) if known else image_grid(((x + 1) * 127.5).clamp(0, 255).long(), 256)
