"""The parts of a diffusion model for one batch, with what is held fixed for it bound."""

from torch import Tensor

from vdm.batch import repeat_batch
from vdm.bound import Denoise, Elbo
from vdm.consistency import ConsistencyElbo
from vdm.denoiser import with_condition
from vdm.process import FORWARD, ForwardProcess
from vdm.schedules import NoiseSchedule


class Given:
    """γ(t), q and the denoiser for the rows of one batch.

    Args:
        schedule: γ(t).
        denoiser: of the model.
        process: q.
        condition: (B, …), or None.

    Attributes:
        denoise: the denoiser with its condition bound.

    Raises:
        InvalidInput: a condition for a denoiser that takes none.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        denoiser: Denoise,
        process: ForwardProcess = FORWARD,
        condition: Tensor | None = None,
    ) -> None:
        self.schedule, self.denoiser, self.process, self.condition = schedule, denoiser, process, condition
        self.denoise = with_condition(denoiser, condition)

    def copies(self, n: int) -> "Given":
        """Return the parts for n copies of the batch, one after the other."""
        condition = None if self.condition is None else repeat_batch(self.condition, n)
        return Given(self.schedule, self.denoiser, self.process, condition)

    def elbo(self, reconstruction: Tensor, prior_matching: Tensor, matching: Tensor, dims: int) -> Elbo:
        """Return the bound with these terms, and with what the held parts cost."""
        return Elbo(reconstruction, prior_matching, matching, dims)

    def consistency(self, bound: ConsistencyElbo) -> ConsistencyElbo:
        """Return the bound with what the held parts cost."""
        return bound

    def log_weight(self, trajectory: Tensor) -> Tensor:
        """Return the log-weight of a trajectory, (B,), with that of the held parts."""
        return trajectory
