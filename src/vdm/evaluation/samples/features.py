"""Networks whose features say how far samples are from data: what a FID is measured with."""

import hashlib
import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput
from vdm.plots.images import to_bytes
from vdm.runs.files import file_sha256


def as_images(x: Tensor, levels: int) -> Tensor:
    """Integer levels 0 … K − 1, (B, C, H, W) with C = 1 or 3, as bytes (B, 3, H, W): 255 k/(K − 1), rounded; grey thrice."""
    return to_bytes(x, levels).expand(-1, 3, -1, -1)


def fingerprint(module: nn.Module) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a module's weights: names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def optional(module: str) -> Any:
    """A module that other uses of this package do without.

    Raises:
        InvalidInput: it cannot be imported, or what it imports cannot.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InvalidInput(
            f"{module} cannot be imported ({reason}): a FID needs torch-fidelity, and a torchvision made for torch "
            f"{torch.__version__}"
        ) from error


class FeatureNetwork(nn.Module, ABC):
    """Bytes (B, 3, H, W) ↦ features (B, F) in float64; always in evaluation mode, never trained.

    ``name`` goes into the metric's name; give another to every other way of making features.
    """

    name: str
    num_features: int

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) ↦ (B, num_features)."""

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).double()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def identity(self) -> dict[str, str]:
        """Name and weights, to stand beside every number."""
        return {"name": self.name, "sha256": fingerprint(self)}


class Classifier(FeatureNetwork):
    """A feature network that knows classes as well."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """What ``forward`` gave, (B, F) ↦ (B, classes)."""


class RandomConvolutions(FeatureNetwork):
    """Two strided convolutions with ReLU, averaged over the quarters of the image: F = 128 from images of 4×4 or more.

    The weights are uniform with variance 2/fan-in, from ``numpy.random.RandomState(0)``: the same on every machine, without
    a file. For small images that have no network of their own; its numbers tell models of one data set apart, and mean
    nothing beside a FID of Inception.
    """

    name = "random_conv"
    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        stream = np.random.RandomState(0)
        for name, shape in (("first", (16, 3, 3, 3)), ("second", (32, 16, 3, 3))):
            reach = (6 / (9 * shape[1])) ** 0.5
            self.register_buffer(name, torch.from_numpy((2 * stream.random_sample(shape) - 1) * reach).float())

    def features(self, images: Tensor) -> Tensor:
        h = F.relu(F.conv2d((images.float() - 127.5) / 127.5, self.get_buffer("first"), stride=2, padding=1))
        h = F.relu(F.conv2d(h, self.get_buffer("second"), stride=2, padding=1))
        return F.adaptive_avg_pool2d(h, 2).flatten(1)


class Inception(Classifier):
    """The 2048 features of the Inception network of 2015 that FIDs are stated with, as torch-fidelity computes them.

    It resizes to 299×299 as TensorFlow 1 did, bilinear without antialiasing.

    Args:
        weights: torch-fidelity's file; null looks where torch.hub keeps its own. It is never fetched.
        sha256: how the file's SHA-256 begins; null to take any.

    Raises:
        InvalidInput: no file, another or a broken one; torch-fidelity or torchvision that cannot be imported.
    """

    name = "inception"
    num_features = 2048

    def __init__(self, weights: str | None = None, sha256: str | None = "6726825d") -> None:
        super().__init__()
        source = optional("torch_fidelity.feature_extractor_inceptionv3")
        url = source.URL_INCEPTION_V3
        kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        path = kept if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise InvalidInput(
                f"no Inception weights at {path}: curl -L --create-dirs -o {path} {url} fetches them, or set "
                "fid.network.weights= to where they are"
            )
        found = file_sha256(path)
        if sha256 is not None and not found.startswith(sha256):
            raise InvalidInput(
                f"{path} is truncated or not torch-fidelity's Inception (sha256 {found[:16]}…, not {sha256}…): fetch it "
                f"again from {url}"
            )
        self.network = self._read(source, path)

    def features(self, images: Tensor) -> Tensor:
        (pooled,) = self.network(images)
        return pooled

    def logits(self, features: Tensor) -> Tensor:
        """Without the bias, as in the Inception score of Salimans et al. (2016)."""
        return features @ self.network.get_parameter("fc.weight").T.to(features)

    @staticmethod
    def _read(source: Any, path: Path) -> nn.Module:
        try:
            torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity's own reading would run code
            with torch.random.fork_rng(devices=[]):
                return source.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        except Exception as error:
            raise InvalidInput(
                f"{path} does not hold the weights of torch-fidelity's Inception: fetch {source.URL_INCEPTION_V3}"
            ) from error
