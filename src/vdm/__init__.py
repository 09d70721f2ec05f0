"""vdm: variational diffusion models whose likelihood can be trusted.

``docs/architecture.md`` has the plan of the package. Names below are imported on first use.
"""

from importlib import import_module
from typing import Any

_LAZY = {"load": "vdm.runs.exported", "compress": "vdm.codec", "decompress": "vdm.codec"}
"""Public names and the modules that define them."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vdm' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
