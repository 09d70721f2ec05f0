"""vdm: variational diffusion models whose likelihood can be trusted.

``docs/architecture.md`` has the plan of the package. Names below are imported on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "compare": "vdm.evaluation.compare",
    "compress": "vdm.codec",
    "decompress": "vdm.codec",
    "load": "vdm.runs.exported",
}
"""Public names and the modules that define them."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vdm' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
