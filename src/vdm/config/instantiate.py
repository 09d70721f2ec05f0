"""Build objects from a tree of plain values: Hydra's ``instantiate`` without Hydra, with checks of names and arguments.

A mapping with ``_target_`` is a call of the class or function of that name. Its other entries are keyword arguments,
``_args_`` lists positional ones, ``_partial_: true`` gives a ``functools.partial``, and ``_recursive_: false`` leaves the
calls in the arguments unmade. ``_convert_`` changes nothing: arguments are plain lists and dictionaries, as Hydra's ``all``.
Any other mapping, list or value stands for itself.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from vdm.config.signatures import UNBUILT, check_arguments
from vdm.config.trust import Trust
from vdm.errors import InvalidInput, one_line

TARGET, PARTIAL, ARGS, RECURSIVE = "_target_", "_partial_", "_args_", "_recursive_"
RESERVED = (TARGET, PARTIAL, ARGS, RECURSIVE, "_convert_")


def instantiate(tree: Any, trust: Trust, place: str = "") -> Any:
    """Return the object that ``tree`` describes; objects already in it stay as they are.

    After ``check_calls``, calls are made innermost first, each after a check of its arguments, which are built by then.

    Args:
        place: of the tree in its config, for messages.

    Raises:
        InvalidInput: a name that is refused or does not exist, arguments that do not fit, or any error of a call; with the
            call's place, in one line.
    """
    return _build(tree, place, check_calls(tree, trust, place), _call)


def check_calls(tree: Any, trust: Trust, place: str = "") -> dict[str, Callable[..., Any]]:
    """Check all calls in ``tree`` without making any, and return the class or function that each ``_target_`` names.

    All names are checked before the first import. Of the arguments, their names and the types of plain values are checked;
    whether the result of another call fits is known to ``instantiate`` only.

    Raises:
        InvalidInput: as ``instantiate``.
    """
    found = calls(tree, place)
    for where, node in found:
        _check_form(node, where)
        trust.check(node[TARGET], where)
    targets = {node[TARGET]: trust.find(node[TARGET], where) for where, node in found}
    _build(tree, place, targets, lambda prepared, complete, _: UNBUILT if complete else prepared)
    return targets


def require_resolved(tree: Any, place: str = "") -> None:
    """Raise InvalidInput if ``tree``, read from a file, has an interpolation: vdm writes resolved configs only."""
    for where, value in nodes(tree, place):
        if isinstance(value, str) and "${" in value:
            raise InvalidInput(f"{where}: {value!r} is an interpolation, which vdm never writes: use an unedited file")


def nodes(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (place, node) of ``tree`` and of everything in it, outer nodes first."""
    yield place, tree
    if isinstance(tree, dict):
        children = [(_join(place, key), value) for key, value in tree.items()]
    else:
        children = [(f"{place}[{i}]", value) for i, value in enumerate(tree if isinstance(tree, list | tuple) else ())]
    for where, child in children:
        yield from nodes(child, where)


def calls(tree: Any, place: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Return (place, node) of every call in ``tree``, outer calls first."""
    return [(where, node) for where, node in nodes(tree, place) if isinstance(node, dict) and TARGET in node]


def _check_form(node: Mapping[str, Any], place: str) -> None:
    for key in node:
        if not isinstance(key, str) or (key.startswith("_") and key not in RESERVED):
            raise InvalidInput(f"{place}: a call has no setting {key!r}: it has {', '.join(RESERVED)} and arguments by name")
    if not isinstance(node[TARGET], str) or "." not in node[TARGET]:
        raise InvalidInput(f"{place}.{TARGET} must be a dotted name, got {node[TARGET]!r}")
    if not isinstance(node.get(ARGS, []), list | tuple):
        raise InvalidInput(f"{place}.{ARGS} must be a list, got {node[ARGS]!r}")


def _build(tree: Any, place: str, targets: Mapping[str, Callable[..., Any]], call: Callable[..., Any]) -> Any:
    """Return ``tree`` with each call replaced by ``call(prepared, complete, place)``, after a check of its arguments."""
    if isinstance(tree, list):
        return [_build(value, f"{place}[{i}]", targets, call) for i, value in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if TARGET not in tree:
        return {key: _build(value, _join(place, key), targets, call) for key, value in tree.items()}
    target, complete = targets[tree[TARGET]], not tree.get(PARTIAL, False)
    named, positional = {key: value for key, value in tree.items() if key not in RESERVED}, list(tree.get(ARGS, ()))
    if tree.get(RECURSIVE, True):
        named = {key: _build(value, _join(place, key), targets, call) for key, value in named.items()}
        positional = _build(positional, _join(place, ARGS), targets, call)
    check_arguments(target, positional, named, complete, place)
    return call(partial(target, *positional, **named), complete, place)


def _call(prepared: partial, complete: bool, place: str) -> Any:
    if not complete:
        return prepared
    try:
        return prepared()
    except Exception as error:
        reason = str(error) if isinstance(error, InvalidInput) else one_line(error, named=True)
        raise InvalidInput(f"{place}: {reason}") from error


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)
