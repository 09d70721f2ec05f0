"""Gradient norm and gradient noise scale."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from vdm.batch import Batch
from vdm.errors import InvalidInput
from vdm.training.loggers.base import log_metrics


def inner_product(a: list[Tensor], b: list[Tensor]) -> float:
    """Return ⟨a, b⟩ over two equally long lists of tensors, summed in float64."""
    return float(sum((x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)))


class NoiseScale:
    """Estimate the simple noise scale tr Σ/‖G‖² from pairs of independent gradients.

    A gradient over B examples is G + ξ with tr Cov ξ = tr Σ/B. Two gradients g, g′ at the same weights satisfy

        E ⟨g, g′⟩ = ‖G‖²,    E ½ ‖g − g′‖² = tr Σ/B.

    Both are averaged over pairs with exponential weights, then B times their ratio is the noise scale: roughly the batch
    size beyond which larger batches help little (McCandlish et al. 2018, arXiv 1812.06162).

    Args:
        memory: decay of the averages per pair, in [0, 1].
        signal, noise: weighted sums over earlier pairs of ⟨g, g′⟩ and ½ ‖g − g′‖².
    """

    def __init__(self, memory: float, signal: float = 0.0, noise: float = 0.0) -> None:
        self.memory, self.signal, self.noise = memory, signal, noise

    def add(self, first: list[Tensor], second: list[Tensor]) -> None:
        """Add a pair of gradients, each a list with one tensor per parameter."""
        dot = inner_product(first, second)
        half_distance = 0.5 * (inner_product(first, first) + inner_product(second, second)) - dot
        self.signal = self.memory * self.signal + dot
        self.noise = self.memory * self.noise + half_distance

    def examples(self, batch_size: int) -> float | None:
        """Return the noise scale in examples, or None while the estimate of ‖G‖² is not positive."""
        return batch_size * self.noise / self.signal if self.signal > 0 else None


class GradientNoise(Callback):
    """Log ``train/gradient_norm``, before clipping, and ``train/gradient_noise_scale`` at every ``every``-th step.

    A pair is the gradients of two successive steps, so ‖G‖² is a product of gradients whose weights differ by one small
    update. With stratified t, Σ is B times the covariance of a batch gradient, stratification included.

    Args:
        every: steps between two pairs, at least 2.
        memory: decay of the running averages per pair, in [0, 1).

    Raises:
        InvalidInput: ``every`` below 2, or ``memory`` outside [0, 1).
    """

    def __init__(self, every: int = 50, memory: float = 0.9) -> None:
        if every < 2 or not 0 <= memory < 1:
            raise InvalidInput(f"every must be at least 2 and memory in [0, 1), got every={every} memory={memory}")
        self.every, self.memory = every, memory
        self._scale = NoiseScale(memory)
        self._first: list[Tensor] | None = None
        self._norm: float | None = None

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        phase = trainer.global_step % self.every
        if phase < self.every - 2:
            return
        gradients = [p.grad.detach() for p in pl_module.parameters() if p.grad is not None]
        if phase == self.every - 2:
            self._first = [gradient.clone() for gradient in gradients]
            return
        self._norm = inner_product(gradients, gradients) ** 0.5
        if self._first is not None and len(self._first) == len(gradients):
            self._scale.add([gradient.to(pl_module.device) for gradient in self._first], gradients)
        self._first = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        if self._norm is None:
            return
        metrics = {"train/gradient_norm": self._norm}
        scale = self._scale.examples(len(batch.x) * trainer.world_size * trainer.accumulate_grad_batches)
        if scale is not None:
            metrics["train/gradient_noise_scale"] = scale
        log_metrics(trainer, metrics)
        self._norm = None

    def state_dict(self) -> dict[str, Any]:
        return {"signal": self._scale.signal, "noise": self._scale.noise, "first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._scale = NoiseScale(self.memory, state_dict["signal"], state_dict["noise"])
        self._first = state_dict["first"]
