"""The best checkpoint of a run."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from vdm.errors import InvalidInput, did_you_mean


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, restored with the files' names only, in today's ``dirpath``.

    Hence a run folder that was moved still knows its best checkpoint, and a foreign run folder cannot make Lightning delete
    a file outside ``dirpath``.
    """

    def check(self, measured: Collection[str]) -> None:
        """Check that the settings save the validated weights with the lowest ``monitor``.

        Args:
            measured: names of the metrics of every validation, all of them better when lower.

        Raises:
            InvalidInput: an unknown monitor, mode=max, weights only, saves without a validation, or several files with the
                same name.
        """
        if self.save_weights_only:
            raise InvalidInput(
                "callbacks.checkpoint.save_weights_only would save a file that can be neither evaluated nor resumed: leave "
                "it out"
            )
        if self.monitor not in measured:
            near = did_you_mean(str(self.monitor), measured, f"choose one of {', '.join(measured)}")
            raise InvalidInput(f"callbacks.checkpoint.monitor={self.monitor} is not measured by validations{near}")
        if self.mode != "min":
            raise InvalidInput(f"callbacks.checkpoint.mode={self.mode} would keep the worst {self.monitor}: set it to min")
        without_validation = {
            "every_n_train_steps": self._every_n_train_steps,
            "train_time_interval": self._train_time_interval,
            "save_on_train_epoch_end": self._save_on_train_epoch_end,
            "save_on_exception": self.save_on_exception,
        }
        for name in [name for name, value in without_validation.items() if value]:
            raise InvalidInput(f"callbacks.checkpoint.{name} would save weights without a validation: leave it out")
        if self.save_top_k not in (0, 1) and "{" not in str(self.filename):
            raise InvalidInput(
                f"callbacks.checkpoint.save_top_k={self.save_top_k} would save several under one name, the last over the "
                "best: add callbacks.checkpoint.filename='best_{step}'"
            )

    def _should_save_on_train_epoch_end(self, trainer: pl.Trainer) -> bool:
        """Return False: such a save would come after ``LastCheckpoint``, which may exit."""
        return False

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: the metric and mode, not how often it saves."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def in_folder(path: str) -> str:
            name = Path(path).name
            return str(folder / name) if name.endswith(".ckpt") else ""

        paths = {key: in_folder(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {in_folder(path): score for path, score in state_dict["best_k_models"].items() if in_folder(path)}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})
