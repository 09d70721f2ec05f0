"""The divergence ∇·f of a vector field, exact or by a random probe."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from vdm.draws import AbstractDraws
from vdm.gamma import sum_event

Field = Callable[[Tensor], Tensor]
"""f: (B, *event) to (B, *event), independently for each row."""


class Divergence(ABC):
    """∇·f = Σ_d ∂f_d/∂x_d."""

    @abstractmethod
    def probes(self, draws: AbstractDraws, like: Tensor) -> Tensor:
        """Draw directions v, (P, B, *event), with E Σ_p v_p v_pᵀ = I for each row."""

    def __call__(self, field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """Return (f(x), Σ_p v_pᵀ ∂f/∂x v_p), (B, *event) and (B,), without a graph; probes (P, B, *event)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = field(x)
            total = y.new_zeros(len(x))
            for i, v in enumerate(probes):
                (pulled,) = torch.autograd.grad(y, x, v, retain_graph=i + 1 < len(probes))
                total = total + sum_event(pulled * v)
        return y.detach(), total.detach()


class ExactDivergence(Divergence):
    """All D unit vectors as probes: exact, at the cost of D backward passes."""

    def probes(self, draws: AbstractDraws, like: Tensor) -> Tensor:
        dims = like[0].numel()
        unit = torch.eye(dims, dtype=like.dtype, device=like.device).reshape(dims, 1, *like.shape[1:])
        return unit.expand(dims, *like.shape)


class HutchinsonDivergence(Divergence):
    """One probe of random signs: unbiased, at the cost of one backward pass (Hutchinson 1989).

    With signs instead of normals the diagonal of ∂f/∂x adds no variance.
    """

    def probes(self, draws: AbstractDraws, like: Tensor) -> Tensor:
        normal = draws.normal("probe", like)
        return torch.where(normal < 0, -1.0, 1.0).to(like.dtype)[None]
