"""``Model.from_pretrained``, an alias of ``vdm.load``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import vdm
from vdm.errors import InvalidInput


class Loadable:
    """Mixin of models that ``vdm-export`` can write."""

    @classmethod
    def from_pretrained(cls, folder: str | Path, trust: str | Sequence[str] | None = None) -> Self:
        """Return ``vdm.load(folder, trust)``, a model of this class in evaluation mode.

        Raises:
            InvalidInput: see ``vdm.load``; a model of another class.
        """
        model = vdm.load(folder, trust)
        if not isinstance(model, cls):
            kind = type(model).__name__
            raise InvalidInput(f"{folder} holds a {kind}, not a {cls.__name__}: call {kind}.from_pretrained")
        return model
