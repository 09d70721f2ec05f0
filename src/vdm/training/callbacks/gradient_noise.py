"""The norm of the gradient, and how much of it is noise."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from vdm.batch import Batch
from vdm.errors import InvalidInput
from vdm.training.loggers.base import log_metrics


def inner(a: list[Tensor], b: list[Tensor]) -> float:
    """⟨a, b⟩ over all tensors of two equally long lists, summed in float64."""
    return float(sum((x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)))


class NoiseScale:
    """tr Σ/‖G‖², the simple noise scale of McCandlish et al. 2018, from pairs of independent gradients.

    A gradient over B examples is G + ξ with tr Cov ξ = tr Σ/B. Of two, at the same weights,

        E ⟨g, g′⟩ = ‖G‖²,    E ½ ‖g − g′‖² = tr Σ/B,

    without bias. Both are averaged over pairs, the older ones ``memory`` times less than the next, before B times their
    ratio is taken: it is about the batch size beyond which more examples a step help little.
    """

    def __init__(self, memory: float, signal: float = 0.0, noise: float = 0.0) -> None:
        self.memory, self.signal, self.noise = memory, signal, noise

    def add(self, first: list[Tensor], second: list[Tensor]) -> None:
        """One pair of gradients, each a list with a tensor a parameter."""
        dot = inner(first, second)
        half_distance = 0.5 * (inner(first, first) + inner(second, second)) - dot
        self.signal = self.memory * self.signal + dot
        self.noise = self.memory * self.noise + half_distance

    def over(self, batch_size: int) -> float | None:
        """In examples; None while the noise hides ‖G‖² altogether."""
        return batch_size * self.noise / self.signal if self.signal > 0 else None


class GradientNoise(Callback):
    """Logs ``train/gradient_norm``, before clipping, and ``train/gradient_noise_scale`` at every ``every``-th step.

    A pair is the gradients of two steps in succession: their weights differ by one small update, so that ‖G‖² is that of
    two neighbouring places. With t spread evenly over a batch, Σ is B times the variance that such a batch has.

    Args:
        every: steps between two pairs, at least 2.
        memory: what one pair leaves of the weight of those before, in [0, 1).

    Raises:
        InvalidInput: values out of range.
    """

    def __init__(self, every: int = 50, memory: float = 0.9) -> None:
        if every < 2 or not 0 <= memory < 1:
            raise InvalidInput(f"every must be at least 2 and memory in [0, 1), got every={every} memory={memory}")
        self.every, self.memory = every, memory
        self._scale = NoiseScale(memory)
        self._first: list[Tensor] | None = None
        self._norm: float | None = None

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        place = trainer.global_step % self.every
        if place < self.every - 2:
            return
        gradients = [p.grad.detach() for p in pl_module.parameters() if p.grad is not None]
        if place == self.every - 2:
            self._first = [gradient.clone() for gradient in gradients]
            return
        self._norm = inner(gradients, gradients) ** 0.5
        if self._first is not None and len(self._first) == len(gradients):
            self._scale.add([each.to(pl_module.device) for each in self._first], gradients)
        self._first = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if self._norm is None:
            return
        metrics = {"train/gradient_norm": self._norm}
        scale = self._scale.over(len(batch.x) * trainer.world_size * trainer.accumulate_grad_batches)
        if scale is not None:
            metrics["train/gradient_noise_scale"] = scale
        log_metrics(trainer, metrics)
        self._norm = None

    def state_dict(self) -> dict[str, Any]:
        return {"signal": self._scale.signal, "noise": self._scale.noise, "first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._scale = NoiseScale(self.memory, state_dict["signal"], state_dict["noise"])
        self._first = state_dict["first"]
