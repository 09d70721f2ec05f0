"""Whether the arguments that a config gives fit what it calls, told by signature and annotations before the call."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpecKwargs, Union, get_args, get_origin, get_type_hints

from vdm.errors import InvalidInput, did_you_mean

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}

Kind = Callable[[Any], type | None]
"""From a value of a config to the class of what it will be, or None if that is not known before it is made."""

Called = Callable[[Any], tuple[Callable[..., Any], Mapping[str, Any]] | None]
"""From a value of a config to the callable that it describes and the arguments given there, or None for a plain value."""


def check_arguments(
    target: Callable[..., Any],
    positional: Sequence[Any],
    given: Mapping[str, Any],
    complete: bool,
    place: str,
    kind: Kind,
    called: Called = lambda value: None,
) -> None:
    """That ``target`` takes so many ``positional`` arguments and those ``given`` by name, with values of their types.

    Args:
        complete: whether arguments without a default have to be there.
        place: of the call in the config.

    Raises:
        InvalidInput: with the place, in one line.
    """
    try:
        parameters, hints = accepted(target, given, called)
    except (ValueError, TypeError):  # some builtins have none
        return
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    title = getattr(target, "__qualname__", str(target))
    for name in given:
        if name not in known and not free:
            raise InvalidInput(f"{place}: {title} has no {name!r}{did_you_mean(name, known, f'it has {_listed(known)}')}")
    ordered = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    first = dict(zip(ordered, positional, strict=False))
    if len(positional) > len(ordered) and not any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        raise InvalidInput(f"{place}._args_: {title} takes {len(ordered)} at most, got {len(positional)}")
    for name in first.keys() & given.keys():
        raise InvalidInput(f"{place}: {title} gets {name!r} twice, in _args_ and by name: leave one of them out")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in (*given, *first)]
    if complete and missing:
        raise InvalidInput(f"{place}: {title} needs {_listed(missing)}: add {place}.{missing[0]}=…")
    for i, (name, value) in enumerate(first.items()):
        check_value(value, hints.get(name, Any), f"{place}._args_[{i}]", kind)
    for name, value in given.items():
        check_value(value, hints.get(name, Any), f"{place}.{name}", kind)


def accepted(
    target: Callable[..., Any], given: Mapping[str, Any], called: Called
) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Return the parameters of ``target`` by name, and their annotations.

    Arguments that are annotated as a ``ParamSpec`` ``P`` are replaced by the parameters of the callable that is given for
    ``Callable[P, …]``, except those given to it already.
    """
    parameters, hints = dict(inspect.signature(target).parameters), _hints(target)
    specs = [hint.__origin__ for hint in hints.values() if isinstance(hint, ParamSpecKwargs)]
    source = next((name for name, hint in hints.items() if specs and get_args(hint)[:1] == (*specs,)), "")
    inner = called(given.get(source))
    if inner is None:
        return parameters, hints
    more, their_hints = accepted(*inner, called)
    own = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return own | {name: p for name, p in more.items() if name not in {*own, *inner[1]}}, their_hints | hints


def check_value(value: Any, annotation: Any, place: str, kind: Kind = type) -> None:
    """Raises InvalidInput for a value of another type than ``annotation``, where that can be told."""
    if not _fits(value, annotation, kind):
        if isinstance(value, Mapping) and _is_mapping(get_origin(annotation)):
            for name, each in value.items():
                check_value(each, get_args(annotation)[1], f"{place}.{name}", kind)
        raise InvalidInput(f"{place} must be {described(annotation)}, got {_shown(value, kind)}")


def described(annotation: Any) -> str:
    """A type, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in parts))
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if _is_list(origin or annotation):
        words = [described(part) for part in parts if part is not Ellipsis]
        return f"a list of {words[0]} each" if words else "a list"
    if _is_mapping(origin or annotation):
        return f"a mapping of {described(parts[1])} each" if parts else "a mapping"
    return f"a {getattr(annotation, '__name__', annotation)}"


def _fits(value: Any, annotation: Any, kind: Kind) -> bool:
    made = kind(value)
    if made is None or annotation is Any:
        return True
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, part, kind) for part in parts)
    if origin is Literal:
        return value in parts
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation in WORDS:
        return isinstance(value, annotation) and (annotation is bool or not isinstance(value, bool))
    if _is_list(origin or annotation):
        return isinstance(value, list | tuple) and _elements_fit(value, origin, parts, kind)
    if _is_mapping(origin or annotation):
        return isinstance(value, Mapping) and all(_fits(each, part, kind) for each in value.values() for part in parts[1:])
    plain = isinstance(value, int | float | str | list)
    if origin is Callable or annotation is Callable or origin is type:
        return not plain
    if not inspect.isclass(annotation) or getattr(annotation, "_is_protocol", False):
        return True
    return issubclass(made, annotation)


def _is_list(kind: Any) -> bool:
    return kind in (list, tuple, Sequence, Iterable)


def _is_mapping(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Mapping)


def _elements_fit(values: Sequence[Any], origin: Any, parts: tuple[Any, ...], kind: Kind) -> bool:
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return len(values) == len(parts) and all(_fits(v, p, kind) for v, p in zip(values, parts, strict=True))
    return not parts or all(_fits(value, parts[0], kind) for value in values)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    if inspect.isclass(target):
        target = target.__new__ if target.__init__ is object.__init__ else target.__init__  # a NamedTuple has the former
    try:
        return get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no settings"


def _shown(value: Any, kind: Kind) -> str:
    made = kind(value) if isinstance(value, Mapping) else None
    return made.__name__ if made is not None else repr(value)
