"""Metrics and images in one Weights & Biases run, online or offline."""

import inspect
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from vdm.errors import InvalidInput, did_you_mean, one_line
from vdm.runs.tables import WANDB_STEP
from vdm.training.loggers.base import ImageLogger, RunLogger

OWN_OPTIONS = {"project", "dir", "mode", "id", "name", "group", "resume", "settings", "config", "reinit"}
"""Arguments of ``wandb.init`` that the logger sets itself."""


class WandbLogger(ImageLogger, RunLogger):
    """Log metrics under their own names, images and the config; rank 0 only.

    W&B's ``_step`` is the number of optimiser steps taken, and all that is logged at one step is one row. A resumed run has
    the same id, and logs ``resumed_at``, the step that it resumes after. An online run cannot delete rows, so steps that it
    already has are not logged again; what a run logs at the step at which it resumes, such as its test, gets the next row.
    The run is offline on request, without an API key, or if the server does not answer; one line on stderr then gives the
    reason and the command to upload it later.

    Args:
        folder: W&B writes to its subfolder ``wandb``.
        offline: stay offline even if the server could be reached.
        lowest: metrics whose minimum is the run's summary; all others have their last value.
        patience: seconds to wait for the server at the start; the upload at the end may take ten times as long.
        options: further arguments of ``wandb.init``: entity, tags, notes, job_type and so on; null leaves one out.

    Raises:
        InvalidInput: an option that ``wandb.init`` does not have, or that this logger sets itself.
    """

    def __init__(
        self, project: str, folder: str, offline: bool, lowest: Sequence[str], patience: float, **options: Any
    ) -> None:
        super().__init__()
        self.project, self.folder = project, Path(folder)
        self.offline, self.lowest, self.patience = offline, tuple(lowest), patience
        known = sorted(inspect.signature(wandb.init).parameters.keys() - OWN_OPTIONS)
        for name in options.keys() - set(known):
            raise InvalidInput(f"logger.wandb.{name} is not an option{did_you_mean(name, known, ', '.join(known))}")
        self.options = {name: value for name, value in options.items() if value is not None}
        self._run: wandb.Run | None = None

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str | None:
        return self.identity.id

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        """The run as W&B's object; the first access starts it."""
        if self._run is None:
            self._run = self._start()
            self._run.define_metric(WANDB_STEP)
            self._run.define_metric("*", step_metric=WANDB_STEP, step_sync=True)
            for name in self.lowest:
                self._run.define_metric(name, step_metric=WANDB_STEP, step_sync=True, summary="min")
            if self.identity.resumed_at is not None:
                self._mark_resumed(self._run, self.identity.resumed_at)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        settings = {name: value for name, value in params.items() if name != "output_dir"}
        self.experiment.config.update(_without_path(settings, str(self.folder)), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        step, run = step or 0, self.experiment
        if step >= run.step or step == self.identity.resumed_at:
            run.log({**metrics, WANDB_STEP: step}, step=max(step, run.step))

    @rank_zero_only
    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.log_metrics({name: wandb.Image(image)}, step)

    def _mark_resumed(self, run: wandb.Run, step: int) -> None:
        """Log ``resumed_at`` in the row of ``step``, or in the first row that the run does not have yet."""
        run.log({"resumed_at": step, WANDB_STEP: step}, step=max(run.step, step), commit=False)

    def _start(self) -> wandb.Run:
        reason = "logger.wandb.offline=true" if self.offline else why_offline(self.patience)
        if reason is None:
            try:
                return self._init(None)
            except wandb.errors.Error as error:
                reason = one_line(error)
                wandb.teardown()
        print(f"W&B is offline ({reason}); to upload later: wandb sync {self.folder}/wandb/offline-run-*", file=sys.stderr)
        return self._init("offline")

    def _init(self, mode: Literal["offline"] | None) -> wandb.Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            init_timeout=self.patience, finish_timeout=10 * self.patience, x_transaction_log_flush_interval=1.0, quiet=True
        )
        if mode == "offline":
            settings.silent = True
        return wandb.init(
            project=self.project,
            dir=self.folder,
            mode=mode,
            id=self.identity.id,
            name=self.identity.name,
            group=self.identity.group,
            resume="allow",
            settings=settings,
            **self.options,
        )


def _without_path(node: Any, folder: str) -> Any:
    """Return a config with ``folder`` cut from its texts, so that only settings differ between runs."""
    if isinstance(node, Mapping):
        return {name: _without_path(value, folder) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_path(value, folder) for value in node]
    return node.replace(folder, "…") if isinstance(node, str) else node


def why_offline(patience: float) -> str | None:
    """Return the reason why W&B is offline, or None: WANDB_MODE, no key, or no answer within ``patience`` seconds."""
    settings = wandb.setup().settings
    if settings.mode == "disabled":
        return None
    if settings.mode in ("offline", "dryrun"):
        return f"WANDB_MODE={settings.mode}"
    try:
        if not _has_key():
            return "no key: run `wandb login`, or set WANDB_API_KEY"
    except wandb.errors.Error as error:
        return one_line(error)
    return None if _answers(settings.base_url, patience) else f"{settings.base_url} does not answer"


def _has_key() -> bool:
    """Return whether an API key is configured. Only a silent login does not send it to the server."""
    silent = wandb.setup().settings.silent
    wandb.setup(wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    finally:
        wandb.setup(wandb.Settings(silent=silent))


def _answers(url: str, patience: float) -> bool:
    """Return whether the server answers within ``patience`` seconds, DNS lookup included."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=patience).close()
        except urllib.error.HTTPError:
            pass
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return answered.is_set()
