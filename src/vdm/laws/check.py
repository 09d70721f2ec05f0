"""Which law holds a part, and the parts of a model that are not vdm's own."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from vdm.bound import VariationalModel
from vdm.divergence import Divergence
from vdm.elbo import Time
from vdm.errors import InvalidInput, one_line
from vdm.laws.law import BrokenLaw
from vdm.laws.likelihoods import check_likelihood
from vdm.laws.outputs import check_denoiser, check_divergence, check_objective, check_parameterisation, check_variance
from vdm.laws.samplers import check_sampler
from vdm.laws.schedules import check_schedule, check_spacing, check_time, check_times
from vdm.likelihoods import Likelihood
from vdm.likelihoods.discretised import ReconstructionVariance
from vdm.models import DiffusionModel
from vdm.objectives import Objective
from vdm.parameterisations import Parameterisation
from vdm.samplers import Sampler, Spacing
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler

LAWS: Mapping[type, Callable[[Any], None]] = {
    NoiseSchedule: check_schedule,
    Time: check_time,
    TimeSampler: check_times,
    Spacing: check_spacing,
    Sampler: check_sampler,
    Parameterisation: check_parameterisation,
    Objective: check_objective,
    Likelihood: check_likelihood,
    ReconstructionVariance: check_variance,
    Divergence: check_divergence,
}
"""The law of each interface."""

OFF = "+laws=off takes it as it is"

_off: ContextVar[bool] = ContextVar("laws_off", default=False)
_held: WeakSet[Any] = WeakSet()


@contextmanager
def laws_off() -> Iterator[None]:
    """Take every part as it is, within this context."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def laws_setting(value: object) -> AbstractContextManager[None]:
    """Return the context of a command's ``laws=``: ``off`` or nothing.

    Raises:
        InvalidInput: another value.
    """
    if value in (None, True, "on"):
        return nullcontext()
    if value in (False, "off"):
        return laws_off()
    raise InvalidInput(f"laws is on or off, got {value!r}: +laws=off takes your own parts as they are")


def laws_fact() -> dict[str, str]:
    """Return the entry of a provenance: that laws are off, or nothing."""
    return {"laws": "off"} if _off.get() else {}


def law_of(part: object) -> Callable[[Any], None] | None:
    """Return the law of a part, or None if it has none."""
    return next((law for base, law in LAWS.items() if isinstance(part, base)), None)


def check_laws(root: object, place: str = "model", dims: int | None = None) -> None:
    """Hold every part of ``root`` that is not vdm's own to the law of its interface; a part once held is not held again.

    Args:
        root: a model, or any object with parts.
        place: of ``root`` in the config, for the message.
        dims: number of dimensions of an example's shape, for likelihoods; 3 for images.

    Raises:
        InvalidInput: a part that breaks its law, or that cannot be called as its interface says: place, class, and the
            numbers that differ.
    """
    if _off.get():
        return
    for where, part in foreign_parts(root, place):
        law = law_of(part)
        if law is not None:
            hold_foreign(part, law if law is not check_likelihood else partial(_likelihood_law, dims=dims), where)


def check_model(model: VariationalModel, x: Tensor) -> None:
    """Hold a model's parts to their laws, and a diffusion's own denoiser to its law on a few of the examples x (B, *event).

    Raises:
        InvalidInput: see ``check_laws``.
    """
    if _off.get():
        return
    check_laws(model, "model", x.ndim - 1)
    if isinstance(model, DiffusionModel) and not hasattr(model.denoiser, "with_condition"):  # which might need one
        x_0 = model.likelihood.encode(x[:4])
        hold_foreign(model.denoiser, partial(check_denoiser, x_0=x_0), "model.denoiser")


def _likelihood_law(likelihood: Likelihood, dims: int | None) -> None:
    """Hold a likelihood to its law in the examples' number of dimensions; without one, as images or else as vectors."""
    if dims is not None:
        return check_likelihood(likelihood, dims)
    try:
        return check_likelihood(likelihood, 3)
    except BrokenLaw:
        raise
    except Exception:
        return check_likelihood(likelihood, 1)


def hold_foreign(part: object, law: Callable[[Any], None], place: str) -> None:
    """Hold a part to ``law`` unless it is vdm's own, was held before, or laws are off.

    Raises:
        InvalidInput: see ``check_laws``.
    """
    if _off.get() or _is_own(part) or _is_held(part):
        return
    kind: Any = part if isinstance(part, FunctionType) else type(part)
    name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            law(part)
    except BrokenLaw as error:
        raise BrokenLaw(f"{place}: {name} breaks its law: {error} ({OFF})") from error
    except Exception as error:
        reason = one_line(error, named=True)
        raise InvalidInput(f"{place}: {name} cannot be held to its law ({reason}): mend it; {OFF}") from error
    _remember(part)


def _is_held(part: Any) -> bool:
    try:
        return part in _held
    except TypeError:  # not hashable
        return False


def _remember(part: Any) -> None:
    with suppress(TypeError):  # not hashable, or no weak references
        _held.add(part)


def foreign_parts(root: object, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, part) of everything in ``root`` whose class is defined outside vdm and has a law."""
    seen: set[int] = set()
    stack = [(place, root)]
    while stack:
        where, part = stack.pop()
        if id(part) in seen or not _may_hold_parts(part):
            continue
        seen.add(id(part))
        if not _is_own(part) and law_of(part) is not None:
            yield where, part
        stack += [(f"{where}{step}", child) for step, child in _children(part)]


def _is_own(part: object) -> bool:
    return str(getattr(part if isinstance(part, FunctionType) else type(part), "__module__", "")).partition(".")[0] == "vdm"


PLAIN = {"torch", "numpy", "omegaconf", "lightning", *sys.stdlib_module_names} - {"__main__", "functools"}
"""Packages whose objects are not searched for parts, except for modules and partial calls."""


def _may_hold_parts(part: object) -> bool:
    if isinstance(part, nn.Module | list | tuple | dict | partial):
        return True
    return not isinstance(part, Tensor | type) and type(part).__module__.partition(".")[0] not in PLAIN


def _children(part: object) -> list[tuple[str, object]]:
    if isinstance(part, dict):
        return [(f".{name}", value) for name, value in part.items()]
    if isinstance(part, list | tuple):
        return [(f"[{i}]", value) for i, value in enumerate(part)]
    if isinstance(part, partial):
        return [*_children(dict(part.keywords)), *_children(part.args)]
    children = dict(getattr(part, "__dict__", {}))
    modules = children.pop("_modules", {}) if isinstance(part, nn.Module) else {}
    plain = {name: value for name, value in children.items() if not (isinstance(part, nn.Module) and name in MODULE_FIELDS)}
    return [(f".{name.lstrip('_')}", value) for name, value in {**plain, **modules}.items()]


MODULE_FIELDS = frozenset(vars(nn.Module()))
"""What every module has: weights, buffers and hooks, none of them parts."""
