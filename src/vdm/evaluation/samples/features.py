"""Feature networks, which map images to the feature vectors that a FID compares."""

import hashlib
import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput, one_line
from vdm.plots.images import to_bytes
from vdm.runs.files import file_sha256


def as_images(x: Tensor, levels: int) -> Tensor:
    """Convert levels 0 … K − 1 (B, C, H, W), C = 1 or 3, to bytes 255 k/(K − 1) (B, 3, H, W); grey is repeated."""
    return to_bytes(x, levels).expand(-1, 3, -1, -1)


def fingerprint(module: nn.Module) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of a module's weights: names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def optional_module(module: str) -> Any:
    """Import a module that only sample scores need.

    Raises:
        InvalidInput: the module, or one of its imports, cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = one_line(error, 120)
        raise InvalidInput(
            f"{module} cannot be imported ({reason}): a FID needs torch-fidelity, and a torchvision built for torch "
            f"{torch.__version__}"
        ) from error


class FeatureNetwork(nn.Module, ABC):
    """Maps bytes (B, 3, H, W) to features (B, F) in float64; always in evaluation mode, never trained.

    ``name`` is part of the metric's name. Features computed in another way need another name.
    """

    name: str
    num_features: int

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Map uint8 (B, 3, H, W) to (B, num_features)."""

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).double()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stay in evaluation mode for any ``mode``."""
        return super().train(False)

    def identity(self) -> dict[str, str]:
        """Return name and hash of the weights, to be stored with every score."""
        return {"name": self.name, "sha256": fingerprint(self)}


class Classifier(FeatureNetwork):
    """A feature network that also predicts classes."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Map features (B, F), as returned by ``forward``, to logits (B, classes)."""


class RandomConvolutions(FeatureNetwork):
    """Two strided convolutions with ReLU, averaged over the quadrants of the image: F = 128, for images of 4×4 or more.

    The weights are uniform with variance 2/fan-in, drawn from ``numpy.random.RandomState(0)``, and so the same on every
    machine without a file. Meant for images too small for Inception: its FID compares models of one data set, and is not
    comparable with a FID of Inception.
    """

    name = "random_conv"
    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        stream = np.random.RandomState(0)
        for name, shape in (("first", (16, 3, 3, 3)), ("second", (32, 16, 3, 3))):
            limit = (6 / (9 * shape[1])) ** 0.5
            self.register_buffer(name, torch.from_numpy((2 * stream.random_sample(shape) - 1) * limit).float())

    def features(self, images: Tensor) -> Tensor:
        h = F.relu(F.conv2d((images.float() - 127.5) / 127.5, self.get_buffer("first"), stride=2, padding=1))
        h = F.relu(F.conv2d(h, self.get_buffer("second"), stride=2, padding=1))
        return F.adaptive_avg_pool2d(h, 2).flatten(1)


class Inception(Classifier):
    """The 2048 features of the 2015 Inception network that published FIDs use, as computed by torch-fidelity.

    Images are resized to 299×299 as in TensorFlow 1, bilinear without antialiasing.

    Args:
        weights: path of torch-fidelity's file; null for torch.hub's folder. The file is never downloaded.
        sha256: first digits of the file's SHA-256; null to accept any.

    Raises:
        InvalidInput: a missing, different or damaged file; torch-fidelity or torchvision cannot be imported.
    """

    name = "inception"
    num_features = 2048

    def __init__(self, weights: str | None = None, sha256: str | None = "6726825d") -> None:
        super().__init__()
        source = optional_module("torch_fidelity.feature_extractor_inceptionv3")
        url = source.URL_INCEPTION_V3
        default = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        path = default if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise InvalidInput(
                f"no Inception weights at {path}: download them with curl -L --create-dirs -o {path} {url}, or set "
                "fid.network.weights= to their path"
            )
        found = file_sha256(path)
        if sha256 is not None and not found.startswith(sha256):
            raise InvalidInput(
                f"{path} is truncated or not torch-fidelity's Inception (sha256 {found[:16]}…, not {sha256}…): download it "
                f"again from {url}"
            )
        self.network = self._read(source, path)

    def features(self, images: Tensor) -> Tensor:
        (pooled,) = self.network(images)
        return pooled

    def logits(self, features: Tensor) -> Tensor:
        """Return logits without the bias, as in the Inception score of Salimans et al. (2016)."""
        return features @ self.network.get_parameter("fc.weight").T.to(features)

    @staticmethod
    def _read(source: Any, path: Path) -> nn.Module:
        try:
            torch.load(path, map_location="cpu", weights_only=True)  # refuse code before torch-fidelity unpickles it
            with torch.random.fork_rng(devices=[]):
                return source.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        except Exception as error:
            raise InvalidInput(
                f"{path} does not hold the weights of torch-fidelity's Inception: download {source.URL_INCEPTION_V3}"
            ) from error
