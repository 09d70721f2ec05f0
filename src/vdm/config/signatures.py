"""Check arguments against the signature and the annotations of what they are given to."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar
from functools import partial
from textwrap import shorten
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpecArgs, ParamSpecKwargs, Union, get_args, get_origin, get_type_hints

from vdm.errors import InvalidInput, did_you_mean

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
LISTS = (list, tuple, Sequence, Iterable)  # types that a list in a config fits
PLAIN = (*WORDS, list, tuple, Mapping)  # types of the values that a config can hold without a call
UNBUILT = object()  # stands for an argument that is not built yet: it fits every annotation


def check_arguments(
    target: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any], complete: bool, place: str
) -> None:
    """Check the names, the number and the types of arguments against ``target``'s signature and annotations.

    Args:
        complete: whether all arguments without a default are required.
        place: of the call in the config.

    Raises:
        InvalidInput: the first argument that does not fit, with its place.
    """
    try:
        signature, hints = accepted(target, named)
    except (ValueError, TypeError):  # some builtins have none
        return
    _check_names(signature, getattr(target, "__qualname__", str(target)), positional, named, complete, place)
    for i, (name, value) in enumerate(zip(signature.parameters, positional, strict=False)):
        check_value(value, hints.get(name, Any), f"{place}._args_[{i}]")
    for name, value in named.items():
        check_value(value, hints.get(name, Any), f"{place}.{name}")


def accepted(target: Callable[..., Any], named: Mapping[str, Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """Return the signature of ``target`` and its annotations.

    Arguments annotated as a ``ParamSpec`` ``P`` are replaced by the parameters of the callable that ``named`` gives for
    ``Callable[P, …]``, except those that a ``functools.partial`` binds already.
    """
    signature, hints = inspect.signature(target), _hints(target)
    specs = [hint.__origin__ for hint in hints.values() if isinstance(hint, ParamSpecKwargs)]
    hints = {name: hint for name, hint in hints.items() if not isinstance(hint, ParamSpecArgs | ParamSpecKwargs)}
    inner = next((named.get(name) for name, hint in hints.items() if specs and get_args(hint)[:1] == (*specs,)), None)
    if not callable(inner):
        return signature, hints
    function, bound = (inner.func, inner.keywords) if isinstance(inner, partial) else (inner, {})
    theirs, their_hints = accepted(function, bound)
    own = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    taken = {*bound, *(p.name for p in own)}
    added = [p.replace(kind=p.KEYWORD_ONLY) for p in theirs.parameters.values() if p.name not in taken]
    return inspect.Signature([*own, *added]), their_hints | hints


def check_value(value: Any, annotation: Any, place: str) -> None:
    """Raise InvalidInput if ``value`` is not of the type ``annotation``; types that cannot be checked fit."""
    if _fits(value, annotation):
        return
    if isinstance(value, Mapping) and _is_mapping(get_origin(annotation)):
        for name, each in value.items():
            check_value(each, get_args(annotation)[1], f"{place}.{name}")
    raise InvalidInput(f"{place} must be {described(annotation)}, got {_shown(value)}")


def described(annotation: Any) -> str:
    """Return a type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in parts))
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if (origin or annotation) in LISTS:
        words = [described(part) for part in parts if part is not Ellipsis]
        return f"a list of {words[0]} each" if words else "a list"
    if _is_mapping(origin or annotation):
        return f"a mapping of {described(parts[1])} each" if parts else "a mapping"
    return f"a {getattr(annotation, '__name__', annotation)}"


def _check_names(
    signature: inspect.Signature, title: str, positional: Sequence[Any], named: Mapping[str, Any], complete: bool, place: str
) -> None:
    parameters = signature.parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = [p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, *variadic)]
    hint = f"it has {', '.join(known) or 'no settings'}"
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in () if open_ended else named:
        if name not in known:
            raise InvalidInput(f"{place}: {title} has no {name!r}{did_you_mean(name, known, hint)}")
    try:
        bound = signature.bind_partial(*positional, **named).arguments
    except TypeError as error:
        raise InvalidInput(f"{place}: {title}: {error}") from error
    missing = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic and p.name not in bound]
    if complete and missing:
        raise InvalidInput(f"{place}: {title} needs {', '.join(missing)}: add {place}.{missing[0]}=…")


def _fits(value: Any, annotation: Any) -> bool:
    if value is UNBUILT or annotation is Any:
        return True
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation in WORDS:
        return isinstance(value, annotation) and (annotation is bool or not isinstance(value, bool))
    kind = origin or annotation
    if isinstance(value, list | tuple) and kind in LISTS:
        return _elements_fit(value, origin, parts)
    if isinstance(value, Mapping) and _is_mapping(kind):
        return all(_fits(each, part) for each in value.values() for part in parts[1:])
    if not inspect.isclass(kind) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, kind) and not (isinstance(value, PLAIN) and kind in LISTS)


def _is_mapping(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Mapping)


def _elements_fit(values: Sequence[Any], origin: Any, parts: tuple[Any, ...]) -> bool:
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return len(values) == len(parts) and all(_fits(v, p) for v, p in zip(values, parts, strict=True))
    return not parts or all(_fits(value, parts[0]) for value in values)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    if inspect.isclass(target):
        target = target.__new__ if target.__init__ is object.__init__ else target.__init__  # a NamedTuple has the former
    try:
        hints = get_type_hints(target)
        return {name: hint.type if isinstance(hint, InitVar) else hint for name, hint in hints.items()}
    except (NameError, TypeError, AttributeError):
        return {}


def _shown(value: Any) -> str:
    return shorten(repr(value), 200) if isinstance(value, PLAIN) else type(value).__name__
