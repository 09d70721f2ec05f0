"""A data set by itself: where its examples come from and how they are shown, without batches or devices."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from PIL import Image
from torch import Tensor

from vdm.data.split import Split
from vdm.plots.images import image_grid


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

    def __init__(self, event_shape: Sequence[int]) -> None:
        self.event_shape = tuple(event_shape)

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """Return the three splits; called once.

        Raises:
            InvalidInput: files that are missing, damaged or of other data.
        """

    @abstractmethod
    def picture(self, x: Tensor) -> Image.Image:
        """Draw examples or samples (n, *event_shape)."""

    def log_prob(self, x: Tensor) -> Tensor | None:
        """Return log p(x) of examples in nats, (N,), or None where the density is unknown."""
        return None

    def provenance(self) -> dict[str, object]:
        """Return further facts on the data, to be stored beside every number."""
        return {}


class ImageSource(Source):
    """Images (C, H, W) of integer levels 0 … ``levels`` − 1."""

    levels = 256

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, self.levels)
