"""The VDM with its restrictions relaxed again, each by a part that is the VDM's own when it is the identity."""

from collections.abc import Callable
from typing import ParamSpec, Self

from vdm.augmentation import Augmentation
from vdm.buildable import buildable
from vdm.models.vdm import VDM
from vdm.process import FORWARD, ForwardProcess

Settings = ParamSpec("Settings")


class RelaxedVDM(VDM):
    """A VDM with another forward process, which relaxes restriction 2, that q's mean is √ᾱ x_0; or with augmented training.

    Args:
        vdm: the model whose parts are taken over.
        process: q, such as those of ``vdm.encoders``.
        augmentation: of training batches; none by default.
    """

    def __init__(self, vdm: VDM, process: ForwardProcess = FORWARD, augmentation: Augmentation | None = None) -> None:
        parts = (vdm.schedule, vdm.denoiser, vdm.likelihood, vdm.time, vdm.times, vdm.objective, vdm.sampling)
        super().__init__(*parts)
        self.process, self.augmentation = process, augmentation or vdm.augmentation

    @classmethod
    @buildable
    def of(
        cls,
        vdm: Callable[Settings, VDM],
        process: ForwardProcess = FORWARD,
        augmentation: Augmentation | None = None,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> Self:
        """Build the VDM from ``settings``, which stand beside ``process`` in a config: ``model.time=…``."""
        return cls(vdm(*args, **settings), process, augmentation)
