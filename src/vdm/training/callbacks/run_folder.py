"""The folder of a run, which someone may remove while it trains."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from vdm.runs.folder import RunFolder


class CheckFolder(Callback):
    """End a run whose folder was removed, before anything is written into a new one that would lack its beginning.

    Raises:
        FileNotFoundError: which ``RunFolder.locked`` turns into one line.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def _check(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.is_global_zero:
            self.folder.check_there()

    on_train_batch_start = on_train_batch_end = on_train_end = _check
    on_validation_start = on_validation_epoch_end = on_validation_end = on_save_checkpoint = _check
    on_test_start = on_test_epoch_end = on_test_end = _check
