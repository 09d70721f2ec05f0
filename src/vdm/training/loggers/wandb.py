"""A run of Weights & Biases: the same one however often training is stopped, and offline rather than in the way."""

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

from vdm.runs.tables import STEP
from vdm.training.loggers.base import ImageLogger, RunLogger

ROWS = 100
"""W&B's own counter is 100 × step + row, which tells what it has already: the first row of a step is 0, the next one 1."""


class WandbLogger(ImageLogger, RunLogger):
    """Metrics under their own names over ``trainer/global_step``, pictures, the config; all of it by rank 0 only.

    A resumed run goes on under its id and shows ``resumed_at``, the step from which it does. What an online run has of later
    steps it keeps: those rows are not logged twice. It is offline when asked to be, without a key, or when the server
    does not answer; one line then says why, and which command uploads it later.

    Args:
        project: W&B's project.
        folder: below which W&B writes, in ``wandb/``.
        offline: whether to stay offline whatever there is.
        lowest: metrics whose least value is the run's summary; of all others it is the last one.
        patience: seconds that a server without an answer may cost at the start; an upload at the end, ten times that.
    """

    def __init__(self, project: str, folder: str, offline: bool, lowest: Sequence[str], patience: float) -> None:
        super().__init__()
        self.project, self.folder = project, Path(folder)
        self.offline, self.lowest, self.patience = offline, tuple(lowest), patience
        self._run: wandb.Run | None = None
        self._row = -1

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str | None:
        return self.identity.id

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        """W&B's own object; the run begins when it is first asked for."""
        if self._run is None:
            self._run = self._begin()
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP, step_sync=True)
            for name in self.lowest:
                self._run.define_metric(name, step_metric=STEP, step_sync=True, summary="min")
            if self.identity.resumed_at is not None:
                self._go_on(self._run, self.identity.resumed_at)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.experiment.config.update(dict(params), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        step, run = step or 0, self.experiment
        self._row = max(self._row + 1, ROWS * step)
        if self._row >= run.step:
            run.log({**metrics, STEP: step}, step=self._row, commit=True)

    @rank_zero_only
    def log_image(self, name: str, picture: Image.Image, step: int) -> None:
        self.log_metrics({name: wandb.Image(picture)}, step)

    def _go_on(self, run: wandb.Run, step: int) -> None:
        """Count rows as if none came after ``step``, and leave a mark, which takes no row away from those that follow."""
        self._row = min(run.step, ROWS * (step + 1)) - 1
        run.log({"resumed_at": step, STEP: step}, step=max(run.step, ROWS * step), commit=False)

    def _begin(self) -> wandb.Run:
        reason = "as asked" if self.offline else why_offline(self.patience)
        if reason is None:
            try:
                return self._init(None)
            except wandb.errors.Error as error:
                reason = " ".join(str(error).split())
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
        )


def why_offline(patience: float) -> str | None:
    """Why W&B cannot be used online, or None: WANDB_MODE, no key, or no answer from its server in ``patience`` seconds."""
    settings = wandb.setup().settings
    if settings.mode == "disabled":
        return None
    if settings.mode in ("offline", "dryrun"):
        return f"WANDB_MODE={settings.mode}"
    try:
        if not _has_key():
            return "no key: `wandb login`, or WANDB_API_KEY"
    except wandb.errors.Error as error:
        return " ".join(str(error).split())
    return None if _answers(settings.base_url, patience) else f"{settings.base_url} does not answer"


def _has_key() -> bool:
    """Whether there is a key; a login that is not silent would ask the server whose it is."""
    silent = wandb.setup().settings.silent
    wandb.setup(wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    finally:
        wandb.setup(wandb.Settings(silent=silent))


def _answers(url: str, patience: float) -> bool:
    """Whether anything answers there in time; the look-up of the name is waited for no longer than that either."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=patience).close()
        except urllib.error.HTTPError:
            pass
        except OSError:
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    return answered.is_set()
