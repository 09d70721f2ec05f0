"""The VDM given an auxiliary latent z of the example, with the latent's own KL as a fourth term of the bound."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, Self

from torch import Tensor

from vdm.auxiliary import AuxiliaryLatent
from vdm.batch import repeat_batch
from vdm.bound import Denoise, Elbo
from vdm.buildable import buildable
from vdm.consistency import ConsistencyElbo
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.given import Given
from vdm.models.mhvae import MHVAE
from vdm.models.relaxed import RelaxedVDM
from vdm.models.vdm import VDM
from vdm.process import FORWARD, ForwardProcess
from vdm.schedules import NoiseSchedule
from vdm.terms import AUXILIARY, bits_per_dim

Settings = ParamSpec("Settings")


@dataclass(frozen=True)
class LatentElbo(Elbo):
    """E_{q(z | x)} of the bound given z, minus KL(q(z | x) ‖ p(z)).

    Attributes:
        auxiliary_kl: (B,), KL(q(z | x) ‖ p(z)) ≥ 0, the fourth term.
    """

    auxiliary_kl: Tensor

    @property
    def ends(self) -> Tensor:
        return super().ends + self.auxiliary_kl

    @property
    def total(self) -> Tensor:
        return super().total - self.auxiliary_kl

    def terms(self) -> dict[str, Tensor]:
        return {**super().terms(), AUXILIARY: bits_per_dim(self.auxiliary_kl, self.dims)}


@dataclass(frozen=True)
class LatentConsistencyElbo(ConsistencyElbo):
    """(1.46) given z, minus KL(q(z | x) ‖ p(z)), ``auxiliary_kl`` (B,)."""

    auxiliary_kl: Tensor

    @property
    def total(self) -> Tensor:
        return super().total - self.auxiliary_kl


class GivenLatent(Given):
    """The parts for the rows of a batch with their latents z (B, L), on which γ and the denoiser depend.

    Args:
        z: the latents.
        kl, log_ratio: KL(q(z | x) ‖ p(z)) and log q(z | x) − log p(z), (B,) each.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        denoiser: Denoise,
        process: ForwardProcess,
        z: Tensor,
        kl: Tensor,
        log_ratio: Tensor,
    ) -> None:
        super().__init__(schedule.with_condition(z), denoiser, process, z)
        self.kl, self.log_ratio = kl, log_ratio

    def copies(self, n: int) -> "GivenLatent":
        assert self.condition is not None
        repeated = (repeat_batch(part, n) for part in (self.condition, self.kl, self.log_ratio))
        return GivenLatent(self.schedule, self.denoiser, self.process, *repeated)

    def elbo(self, reconstruction: Tensor, prior_matching: Tensor, matching: Tensor, dims: int) -> LatentElbo:
        return LatentElbo(reconstruction, prior_matching, matching, dims, self.kl)

    def consistency(self, bound: ConsistencyElbo) -> LatentConsistencyElbo:
        return LatentConsistencyElbo(**vars(bound), auxiliary_kl=self.kl)

    def log_weight(self, trajectory: Tensor) -> Tensor:
        return trajectory - self.log_ratio


class LatentVDM(RelaxedVDM):
    """A VDM given a latent z ~ q(z | x): log p(x) ≥ E_q [bound given z] − KL(q(z | x) ‖ p(z)) (Sahoo et al. 2024).

    The schedule's ``with_condition`` and the denoiser's get z. In sampling z ~ p(z). The KL is exact for every family of
    ``vdm.auxiliary``; MuLAN's published code has another number in its place, which gives no bound (``docs/derivation.md``).

    Args:
        vdm: the model whose parts are taken over; its denoiser takes a condition (B, L).
        latent: q(z | x) and p(z).
        process: q(x_t | x).
    """

    def __init__(self, vdm: VDM, latent: AuxiliaryLatent, process: ForwardProcess = FORWARD) -> None:
        super().__init__(vdm, process)
        self.latent = latent

    @classmethod
    @buildable
    def of(  # type: ignore[override]
        cls,
        vdm: Callable[Settings, VDM],
        latent: AuxiliaryLatent,
        process: ForwardProcess = FORWARD,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> Self:
        """Build the VDM from ``settings``, which stand beside ``latent`` in a config: ``model.time=…``."""
        return cls(vdm(*args, **settings), latent, process)

    @property
    def depends_on_path(self) -> bool:
        return True  # γ depends on the latent

    @property
    def term_names(self) -> tuple[str, ...]:
        return (*super().term_names, AUXILIARY)

    def given(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> GivenLatent:
        self._refuse(condition)
        parameters, family = self.latent(self.likelihood.encode(x)), self.latent.family
        z = family.draw(parameters, draws)
        kl, log_ratio = family.kl(parameters), family.log_ratio(parameters, z)
        return GivenLatent(self.schedule, self.denoiser, self.process, z, kl, log_ratio)

    def imagined(self, like: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> GivenLatent:
        self._refuse(condition)
        z, free = self.latent.family.prior(like, draws), like.new_zeros(len(like))
        return GivenLatent(self.schedule, self.denoiser, self.process, z, free, free)

    def as_mhvae(self) -> MHVAE:
        raise InvalidInput("a model with an auxiliary latent is no Markovian HVAE of x_1 … x_T: use log_weight")

    def _refuse(self, condition: Tensor | None) -> None:
        if condition is not None:
            raise InvalidInput("a model with an auxiliary latent takes no other condition: use data without labels")
