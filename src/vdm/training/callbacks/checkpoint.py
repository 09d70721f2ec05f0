"""The best checkpoint of a run."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from vdm.errors import InvalidInput, did_you_mean


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, but its memory of earlier files is one of names in ``dirpath``, whatever folder they were in.

    So a run whose folder was moved does not replace its best checkpoint by a worse one, and a run's folder that came
    from elsewhere names no file of its new owner's for removal.
    """

    def check(self, measured: Collection[str]) -> None:
        """Refuse what would keep another checkpoint than the best of those validated, all of it.

        Raises:
            InvalidInput: a monitor that is none of what every validation measures, of all of which less is better; weights
                alone; a save beside no validation; several files of one name.
        """
        if self.save_weights_only:
            raise InvalidInput(
                "callbacks.checkpoint.save_weights_only keeps nothing to evaluate or go on from: leave it out"
            )
        if self.monitor not in measured:
            near = did_you_mean(str(self.monitor), measured, f"choose one of {', '.join(measured)}")
            raise InvalidInput(f"callbacks.checkpoint.monitor={self.monitor} is measured by no validation{near}")
        if self.mode != "min":
            raise InvalidInput(f"callbacks.checkpoint.mode={self.mode} would keep the worst {self.monitor}: it must be min")
        unvalidated = {
            "every_n_train_steps": self._every_n_train_steps,
            "train_time_interval": self._train_time_interval,
            "save_on_train_epoch_end": self._save_on_train_epoch_end,
            "save_on_exception": self.save_on_exception,
        }
        for name in [name for name, asked in unvalidated.items() if asked]:
            raise InvalidInput(
                f"callbacks.checkpoint.{name} would keep weights that no validation has measured: leave it out"
            )
        if self.save_top_k not in (0, 1) and "{" not in str(self.filename):
            raise InvalidInput(
                f"callbacks.checkpoint.save_top_k={self.save_top_k} would keep several under one name, the last in place of "
                "the best: add callbacks.checkpoint.filename='best_{step}'"
            )

    def _should_save_on_train_epoch_end(self, trainer: pl.Trainer) -> bool:
        """Never: where an epoch ends with its validation, Lightning would save after ``LastCheckpoint``, which may leave."""
        return False

    @property
    def state_key(self) -> str:
        """Its scores are comparable as long as they are of one metric; how often it saves does not matter."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        home = Path(str(self.dirpath))

        def here(path: str) -> str:
            name = Path(path).name
            return str(home / name) if name.endswith(".ckpt") else ""

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items() if here(path)}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})
