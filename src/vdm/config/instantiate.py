"""From a tree of plain values to objects: what Hydra's ``instantiate`` does, without Hydra, and checked beforehand.

A mapping with ``_target_`` is a call of what it names, with its other entries as arguments; ``_partial_: true`` leaves
arguments for later, ``_args_`` lists positional ones. Any other mapping, list or value stands for itself.
"""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isclass
from typing import Any

from vdm.config.signatures import check_arguments
from vdm.config.trust import Trust
from vdm.errors import InvalidInput

TARGET, PARTIAL, ARGS = "_target_", "_partial_", "_args_"


def instantiate(tree: Any, trust: Trust, place: str = "") -> Any:
    """The object that ``tree`` describes; objects that are in it already stay as they are.

    Args:
        place: of the tree in its config, for messages.

    Raises:
        InvalidInput: see ``check``; or what a part says of its arguments, with the part's place before it.
    """
    check_calls(tree, trust, place)
    return _build(tree, trust, place)


def check_calls(tree: Any, trust: Trust, place: str = "") -> None:
    """That every call in ``tree`` is trusted, exists and gets arguments that it has, of their types; nothing is called.

    All names are looked at before the first is imported.

    Raises:
        InvalidInput: the first that is not so, with its place.
    """
    calls = _calls(tree, place)
    for where, node in calls:
        unknown = [str(key) for key in node if str(key).startswith("_") and key not in (TARGET, PARTIAL, ARGS)]
        if unknown or not isinstance(node[TARGET], str) or "." not in node[TARGET]:
            raise InvalidInput(f"{where}: {unknown[0] if unknown else node[TARGET]!r} is nothing that a part can be made of")
        trust.check(node[TARGET], where)
    found = [trust.find(node[TARGET], where) for where, node in calls]
    for target, (where, node) in zip(found, calls, strict=True):
        positional, complete = node.get(ARGS, ()), not node.get(PARTIAL, False)
        if not isinstance(positional, list | tuple):
            raise InvalidInput(f"{where}.{ARGS} must be a list, got {positional!r}")
        kind, called = (lambda value: _kind(value, trust)), (lambda value: _called(value, trust))
        check_arguments(target, positional, _arguments(node), complete, where, kind, called)


def require_resolved(tree: Any, place: str = "") -> None:
    """Raises InvalidInput for an interpolation: a config that vdm wrote into a file is resolved, and has none."""
    for where, value in _leaves(tree, place):
        if isinstance(value, str) and "${" in value:
            raise InvalidInput(f"{where}: {value!r} is an interpolation, which no file of vdm holds: it was changed by hand")


def _build(tree: Any, trust: Trust, place: str) -> Any:
    if isinstance(tree, list):
        return [_build(value, trust, f"{place}[{i}]") for i, value in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if TARGET not in tree:
        return {key: _build(value, trust, _join(place, key)) for key, value in tree.items()}
    target = trust.find(tree[TARGET], place)
    arguments = {key: _build(value, trust, _join(place, key)) for key, value in _arguments(tree).items()}
    positional = _build(list(tree.get(ARGS, ())), trust, _join(place, ARGS))
    if tree.get(PARTIAL, False):
        return partial(target, *positional, **arguments)
    try:
        return target(*positional, **arguments)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(f"{place}: {reason}") from error


def _calls(tree: Any, place: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(place, node) of every call, the outer before the inner."""
    if isinstance(tree, list):
        return [call for i, value in enumerate(tree) for call in _calls(value, f"{place}[{i}]")]
    if not isinstance(tree, dict):
        return []
    own = [(place, tree)] if TARGET in tree else []
    return own + [call for key, value in tree.items() for call in _calls(value, _join(place, key))]


def _leaves(tree: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(tree, list | tuple):
        return [leaf for i, value in enumerate(tree) for leaf in _leaves(value, f"{place}[{i}]")]
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _leaves(value, _join(place, key))]
    return [(place, tree)]


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in (TARGET, PARTIAL, ARGS)}


def _kind(value: Any, trust: Trust) -> type | None:
    """The class of what ``value`` will be; None where only the call can tell."""
    if not isinstance(value, dict) or TARGET not in value:
        return type(value)
    target = trust.find(value[TARGET], "")
    return target if isclass(target) and not value.get(PARTIAL, False) else None


def _called(value: Any, trust: Trust) -> tuple[Callable[..., Any], Mapping[str, Any]] | None:
    """The callable that ``value`` describes, and the arguments that it has there."""
    if not isinstance(value, dict) or TARGET not in value:
        return None
    return trust.find(value[TARGET], ""), _arguments(value)


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)
