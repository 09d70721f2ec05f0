"""Which names a config may call: any, where its user wrote it; parts of this package, where it came with a file.

A ``_target_`` is a name that is imported and called, so a foreign config is a foreign program unless the names are
limited. The limit is on the name, before anything is imported, and again on what the name leads to: ``vdm.elbo.math.exp``
begins with the right word, but is no part of the package.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import isclass, isfunction, ismethod
from types import ModuleType
from typing import Any

from vdm.errors import InvalidInput, did_you_mean

OWN = "vdm"

OTHERS = (
    "builtins.len",
    *(f"torch.optim.{name}" for name in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")),
)
"""What a config may name outside of packages."""

BUILDERS = (
    *(f"vdm.data.densities.{name}" for name in ("checkerboard", "gaussians", "grid", "moons", "ring")),
    "vdm.data.folder.ImageFolder.of",
    "vdm.data.module.DataModule.of",
    *(f"vdm.data.image_files.{name}" for name in ("as_stored", "centre", "cropped", "stretched")),
    "vdm.evaluation.bound.BoundAt.timesteps",
    "vdm.models.latent.StandardNormal.at_the_top",
    "vdm.models.learned.LearnedDecoder.of_shapes",
    "vdm.networks.vdm_unet.FourierFeatures.for_levels",
    "vdm.schedules.tabulated.linear_betas",
    "vdm.training.learning_rate.warmup_constant",
    "vdm.training.learning_rate.warmup_cosine",
)
"""Functions and class methods that may be named, by where they are defined: they make parts, and touch no file. Of all else
only classes may be: a method such as ``from_pretrained`` would read a second config, whose trust the first one chooses."""


class Trust(ABC):
    """Whose code a config may call."""

    @abstractmethod
    def allows_name(self, name: str) -> bool:
        """Whether ``name`` may be imported at all."""

    @abstractmethod
    def allows_object(self, name: str, found: Any) -> bool:
        """Whether what was found under a permitted name may be called."""

    def check(self, name: str, place: str) -> None:
        """Raises InvalidInput, having imported nothing, for a name at ``place`` of a config that is not permitted."""
        if not self.allows_name(name):
            raise InvalidInput(_refusal(name, place))

    def find(self, name: str, place: str) -> Callable[..., Any]:
        """What a permitted name stands for.

        Raises:
            InvalidInput: nothing, or something that may not be called.
        """
        self.check(name, place)
        found = _located(name, place)
        if not self.allows_object(name, found):
            raise InvalidInput(_refusal(name, place))
        if not callable(found):
            raise InvalidInput(f"{place}: {name} is a {type(found).__name__} and makes nothing: name a class")
        return found


class TrustEverything(Trust):
    """For a config that its user composed: it calls what it names."""

    def allows_name(self, name: str) -> bool:
        return True

    def allows_object(self, name: str, found: Any) -> bool:
        return True


class TrustParts(Trust):
    """For a config that came with a checkpoint, a run's folder or an exported model.

    Args:
        packages: other packages, one or several, that the user trusts as much as their own code.
    """

    def __init__(self, packages: str | Sequence[str] | None = None) -> None:
        self.packages = (packages,) if isinstance(packages, str) else tuple(packages or ())

    def allows_name(self, name: str) -> bool:
        return name in OTHERS or any(name.startswith(f"{package}.") for package in (OWN, *self.packages))

    def allows_object(self, name: str, found: Any) -> bool:
        owner = found.__self__ if ismethod(found) else found
        home = str(getattr(owner, "__module__", ""))
        if name in OTHERS:
            return True
        if name.startswith(f"{OWN}."):
            defined = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
            return _inside(home, OWN) and (isclass(found) or defined in BUILDERS)
        return any(_inside(home, package) for package in self.packages) and (isclass(owner) or isfunction(found))


def _inside(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _refusal(name: str, place: str) -> str:
    package = name.partition(".")[0]
    refused = f"{place}: this file's config calls {name}, which is no part that vdm makes models of, so nothing was loaded"
    return refused if package == OWN else f"{refused}; only if {package} is a package of your own, add trust={package}"


def _located(name: str, place: str) -> Any:
    first, *rest = name.split(".")
    try:
        found: Any = import_module(first)
        for depth, part in enumerate(rest, 1):
            if isinstance(found, ModuleType) and not hasattr(found, part):
                import_module(".".join([first, *rest[:depth]]))
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        known = dir(found) if "found" in locals() else []
        hint = did_you_mean(part if known else first, known, "check the spelling, and that the package is installed")
        raise InvalidInput(f"{place}: there is no {name}{hint}") from error
    return found
