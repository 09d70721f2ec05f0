"""Limits on the names that a config may call: none for its author, parts of this package for a config that came with a file.

A ``_target_`` is a name that is imported and called, so a foreign config is a foreign program unless the names are limited.
The limit applies to the name, before anything is imported, and again to the object found under it: ``vdm.elbo.math.exp``
has the right prefix, but is defined outside the package.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import isclass, isfunction, ismethod
from types import ModuleType
from typing import Any

from vdm.buildable import is_buildable
from vdm.errors import InvalidInput, did_you_mean

OWN = "vdm"
OTHERS = ("builtins.len",)  # names outside of packages that any config may call


class Trust(ABC):
    """A rule for the names that a config may call."""

    @abstractmethod
    def allows_name(self, name: str) -> bool:
        """Return whether ``name`` may be imported."""

    @abstractmethod
    def allows_object(self, name: str, found: Any) -> bool:
        """Return whether ``found``, imported under an allowed name, may be called."""

    def check(self, name: str, place: str) -> None:
        """Raise InvalidInput, without any import, if ``name`` at ``place`` of a config is not allowed."""
        if not self.allows_name(name):
            raise InvalidInput(_refusal(name, place))

    def find(self, name: str, place: str) -> Callable[..., Any]:
        """Import and return the object called ``name``.

        Raises:
            InvalidInput: a name that is not allowed or does not exist; an object that is not allowed or not callable.
        """
        self.check(name, place)
        found = _located(name, place)
        if not self.allows_object(name, found):
            raise InvalidInput(_refusal(name, place))
        if not callable(found):
            raise InvalidInput(f"{place}: {name} is a {type(found).__name__} and cannot be called: name a class")
        return found


class TrustEverything(Trust):
    """For a config composed by its user, which may call anything."""

    def allows_name(self, name: str) -> bool:
        return True

    def allows_object(self, name: str, found: Any) -> bool:
        return True


class TrustParts(Trust):
    """For the config of a checkpoint, a run folder or an exported model, which may call parts of this package.

    Parts are its classes and the functions marked ``@buildable``. A method such as ``from_pretrained`` is refused: it would
    read a second config, whose trust the first one chooses.

    Args:
        packages: other packages, one or several, that the user trusts as much as their own code.
    """

    def __init__(self, packages: str | Sequence[str] | None = None) -> None:
        self.packages = (packages,) if isinstance(packages, str) else tuple(packages or ())

    def allows_name(self, name: str) -> bool:
        return name in OTHERS or name.startswith(tuple(f"{package}." for package in (OWN, *self.packages)))

    def allows_object(self, name: str, found: Any) -> bool:
        owner = found.__self__ if ismethod(found) else found
        home = f"{getattr(owner, '__module__', '')}."
        if name in OTHERS:
            return True
        if name.startswith(f"{OWN}."):
            return home.startswith(f"{OWN}.") and (isclass(found) or is_buildable(found))
        return home.startswith(tuple(f"{package}." for package in self.packages)) and (isclass(owner) or isfunction(found))


def _refusal(name: str, place: str) -> str:
    package = name.partition(".")[0]
    refused = f"{place}: this file's config calls {name}, which is not trusted, so nothing was loaded"
    return refused if package == OWN else f"{refused}; if {package} is a package of your own, add trust={package}"


def _located(name: str, place: str) -> Any:
    first, *rest = name.split(".")
    part, known = first, list[str]()
    try:
        found: Any = import_module(first)
        for depth, part in enumerate(rest, 1):
            known = dir(found)
            if isinstance(found, ModuleType) and not hasattr(found, part):
                import_module(".".join([first, *rest[:depth]]))
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        hint = did_you_mean(part, known, "check the spelling, and that the package is installed")
        raise InvalidInput(f"{place}: there is no {name}{hint}") from error
    return found
