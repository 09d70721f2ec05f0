"""The guard against NaN and infinite losses, and the step that it keeps for those who look for the cause."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vdm.batch import Batch
from vdm.bound import VariationalModel
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.evaluation.ranks import AsyncHostCopy, max_all_reduce, rank_and_world_size
from vdm.runs.checkpoints import KEY
from vdm.training.callbacks.checkpoint_metadata import CheckpointMetadata
from vdm.training.checkpoint_io import AtomicCheckpointIO
from vdm.training.replay import locate_non_finite, rerun_step
from vdm.training.task import VariationalTask


class StopOnNonFinite(Callback):
    """Stops all processes before a NaN or infinite loss of any reaches the weights, and keeps the step: see
    ``vdm.training.replay``.

    The loss is looked at when the backward pass has been asked for, so that a device is busy with it meanwhile. Gradients
    that are not finite though the loss is are found in the next step, or before a save, a validation or the end: they do
    reach the weights, which then reach nothing else.

    The file is a checkpoint of the weights and buffers before the step, with the batch, and which part of the step it is of
    how many (``rank`` and ``world_size`` of its draws). All draws follow from these.

    Args:
        folder: where the step is kept; None for nowhere.

    Raises:
        InvalidInput: with the step, the term, t, the file, and what to try.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._batch: Batch | None = None
        self._draws = Draws()
        self._buffers: dict[str, Tensor] = {}
        self._loss = torch.zeros(())
        self._bad = AsyncHostCopy(self._loss)
        self._good_gradient: AsyncHostCopy | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: VariationalTask, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        self._batch, self._draws = batch, pl_module.draws(batch_idx)
        self._buffers = {name: buffer.clone() for name, buffer in pl_module.model.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, pl_module: VariationalTask, loss: Tensor) -> None:  # type: ignore[override]
        self._loss = loss.detach()
        self._bad = AsyncHostCopy(max_all_reduce((~torch.isfinite(self._loss)).int()))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._check_gradient(trainer)
        if not self._bad.read():
            return
        told = [None if torch.isfinite(self._loss) else self._keep(trainer, pl_module)]
        if rank_and_world_size()[1] > 1:
            own, told = told[0], [None] * rank_and_world_size()[1]
            distributed.all_gather_object(told, own)
        raise InvalidInput(next(each for each in told if each is not None))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: VariationalTask, optimizer: Optimizer) -> None:  # type: ignore[override]
        gradients = [weight.grad for weight in pl_module.model.parameters() if weight.grad is not None]
        self._good_gradient = AsyncHostCopy(torch.isfinite(get_total_norm(gradients)))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_gradient(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self._check_gradient(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_gradient(trainer)

    def _check_gradient(self, trainer: pl.Trainer) -> None:
        good, self._good_gradient = self._good_gradient, None
        if good is not None and not good.read():
            raise InvalidInput(
                f"the gradients of step {trainer.global_step - 1} are not finite, though its loss is. Nothing was saved of "
                "the weights since: resume=true repeats the step from the last checkpoint; lower optimizer.lr"
            )

    def _keep(self, trainer: pl.Trainer, task: VariationalTask) -> str:
        """Keep the step of this process, and say what was wrong with it."""
        assert self._batch is not None
        step, kept = trainer.global_step, ""
        self._take_back(task.model)
        if self.folder is not None:
            path = Path(self.folder) / f"non_finite_step_{step:07d}_part_{self._draws.rank}.ckpt"
            AtomicCheckpointIO().save_checkpoint(self._content(trainer, task), path)
            kept = f"; the step is kept in {path}"
        again = rerun_step(task.model, self._batch, self._draws)
        cause = locate_non_finite(task.model, self._batch, self._draws, again)
        self._take_back(task.model)
        return (
            f"the training loss is {self._loss.item()} at step {step}: {cause}. It was not applied to the weights{kept}: "
            "lower optimizer.lr, or check the data"
        )

    def _take_back(self, model: VariationalModel) -> None:
        for name, buffer in model.named_buffers():
            buffer.copy_(self._buffers[name])

    def _content(self, trainer: pl.Trainer, task: VariationalTask) -> dict[str, Any]:
        assert self._batch is not None
        identity = [callback.content for callback in trainer.callbacks if isinstance(callback, CheckpointMetadata)]  # type: ignore[attr-defined]
        return {
            KEY: identity[0] if identity else CheckpointMetadata({}, {}).content,
            "state_dict": task.state_dict(),
            "global_step": trainer.global_step,
            "batch": self._batch._asdict(),
            "rank": self._draws.rank,
            "world_size": self._draws.world_size,
        }
