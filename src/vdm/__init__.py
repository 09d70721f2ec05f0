"""vdm: variational diffusion models whose likelihood can be trusted.

``docs/python.md`` shows the calls, and ``docs/architecture.md`` has the plan of the package. Names below are imported on
first use, so that ``import vdm`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "vdm.api.opening": ("load",),
    "vdm.api.training": ("TrainedRun", "train"),
    "vdm.api.evaluation": ("Evaluation", "evaluate"),
    "vdm.api.sampling": ("sample",),
    "vdm.api.wrapping": ("wrap",),
    "vdm.evaluation.compare": ("compare",),
    "vdm.codec": ("compress", "decompress"),
    "vdm.models": ("HVAE", "MHVAE", "VDM"),
    "vdm.schedules": (
        "AdaptiveSchedule",
        "CosineSchedule",
        "DDPMSchedule",
        "LearnedEnds",
        "LinearSchedule",
        "MonotoneSchedule",
        "PerPixelSchedule",
        "SigmoidSchedule",
        "TabulatedSchedule",
    ),
    "vdm.likelihoods": (
        "CategoricalLikelihood",
        "DenoisedGaussianLikelihood",
        "DiscretisedGaussianLikelihood",
        "GaussianLikelihood",
    ),
    "vdm.elbo": ("ContinuousTime", "DiscreteTime"),
    "vdm.levels": ("CentredScale", "EndpointScale"),
    "vdm.data": ("DataModule",),
    "vdm.estimate": ("Estimate",),
    "vdm.errors": ("InvalidInput",),
}
"""Public names by the modules that define them."""

_LAZY = {name: home for home, names in _HOMES.items() for name in names}

_MODULES = ("data", "likelihoods", "models", "networks", "parameterisations", "samplers", "schedules")
"""Modules whose names are for users too: ``vdm.samplers.DDIMSampler``."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"vdm.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'vdm' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_MODULES])
