"""Stop training at a NaN or infinite loss or gradient, and save the step for debugging."""

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
from vdm.training.checkpoint_io import AtomicCheckpointIO, CheckpointMetadata
from vdm.training.replay import locate_non_finite, rerun_step
from vdm.training.task import VariationalTask


class StopOnNonFinite(Callback):
    """Stop all processes before a NaN or infinite loss in any of them changes the weights, and save the step.

    The loss is read after the backward pass has been launched, so that a device is not idle meanwhile. NaN or infinite
    gradients of a finite loss are found later: in the next step, or before a save, a validation or the end of training.
    They change the weights, but those weights are neither saved nor evaluated.

    The file is a checkpoint of weights and buffers before the step, together with the batch, ``rank`` and ``world_size`` of
    its draws: enough for ``vdm.training.replay`` to run the step again.

    Args:
        folder: folder of the file; None to save nothing.

    Raises:
        InvalidInput: during training, with the step, the term, t, the file and what to try.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._batch, self._draws = Batch(torch.zeros(0), torch.zeros(0)), Draws()
        self._buffers: dict[str, Tensor] = {}
        self._loss = torch.zeros(())
        self._bad_loss = AsyncHostCopy(self._loss)
        self._finite_gradient: AsyncHostCopy | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: VariationalTask, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        self._batch, self._draws = batch, pl_module.draws(batch_idx)
        self._buffers = {name: buffer.clone() for name, buffer in pl_module.model.named_buffers()}

    def on_before_backward(self, trainer: pl.Trainer, pl_module: VariationalTask, loss: Tensor) -> None:  # type: ignore[override]
        self._loss = loss.detach()
        self._bad_loss = AsyncHostCopy(max_all_reduce((~torch.isfinite(self._loss)).int()))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._check_gradient(trainer)
        if not self._bad_loss.read():
            return
        messages = [None if torch.isfinite(self._loss) else self._save_step(trainer, pl_module)]
        if rank_and_world_size()[1] > 1:
            own, messages = messages[0], [None] * rank_and_world_size()[1]
            distributed.all_gather_object(messages, own)
        raise InvalidInput(next(message for message in messages if message is not None))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: VariationalTask, optimizer: Optimizer) -> None:  # type: ignore[override]
        gradients = [weight.grad for weight in pl_module.model.parameters() if weight.grad is not None]
        self._finite_gradient = AsyncHostCopy(torch.isfinite(get_total_norm(gradients)))

    def _check_gradient(self, trainer: pl.Trainer, *_: Any) -> None:
        finite, self._finite_gradient = self._finite_gradient, None
        if finite is not None and not finite.read():
            raise InvalidInput(
                f"the gradients of step {trainer.global_step - 1} are not finite, though its loss is, and no weights "
                "were saved since: start again with a lower optimizer.lr, or repeat the step with resume=true"
            )

    on_validation_start = on_save_checkpoint = on_train_end = _check_gradient  # type: ignore[assignment]

    def _save_step(self, trainer: pl.Trainer, task: VariationalTask) -> str:
        """Save this process's step, and return the error message with its cause."""
        step, saved = trainer.global_step, ""
        self._restore_buffers(task.model)
        if self.folder is not None:
            path = Path(self.folder) / f"non_finite_step_{step:07d}_part_{self._draws.rank}.ckpt"
            AtomicCheckpointIO().save_checkpoint(self._content(trainer, task), path)
            saved = f"; the step is saved in {path}"
        loss = rerun_step(task.model, self._batch, self._draws)
        cause = locate_non_finite(task.model, self._batch, self._draws, loss)
        self._restore_buffers(task.model)
        return (
            f"the training loss is {self._loss.item()} at step {step}: {cause}. It was not applied to the weights{saved}: "
            "lower optimizer.lr, or check the data"
        )

    def _restore_buffers(self, model: VariationalModel) -> None:
        for name, buffer in model.named_buffers():
            buffer.copy_(self._buffers[name])

    def _content(self, trainer: pl.Trainer, task: VariationalTask) -> dict[str, Any]:
        metadata = [callback.content for callback in trainer.callbacks if isinstance(callback, CheckpointMetadata)]  # type: ignore[attr-defined]
        return {
            KEY: metadata[0] if metadata else CheckpointMetadata({}, {}).content,
            "state_dict": task.state_dict(),
            "global_step": trainer.global_step,
            "batch": self._batch._asdict(),
            "rank": self._draws.rank,
            "world_size": self._draws.world_size,
        }
