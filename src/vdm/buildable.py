"""Permission, given at its definition, for a function to be named in a config that came with a file."""

from collections.abc import Callable
from inspect import isfunction, ismethod
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def buildable(function: Function) -> Function:
    """Allow the config of a checkpoint or an exported model to call ``function``, or with ``@classmethod`` above, a method.

    Mark only functions that make a part from their arguments: none that touches a file, starts a process or reads a second
    config. Classes need no mark.
    """
    function.__dict__["buildable"] = True
    return function


def is_buildable(found: Any) -> bool:
    """Return whether ``found`` is a marked function or class method."""
    return (isfunction(found) or ismethod(found)) and getattr(found, "buildable", False) is True
