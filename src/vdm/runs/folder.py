"""The folder of one run: its files, the lock on it, and the checks before a run starts or resumes in it."""

import errno
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.runs.bounds import read_text
from vdm.runs.files import file_sha256, json_values, not_a_folder_message, remove_remnants, write_atomically, write_json
from vdm.runs.migration import migrate_config
from vdm.runs.reading import read_json, read_yaml, reading, shown
from vdm.runs.resuming import check_same_settings, is_longer

LOCK_TIMEOUT_S = 10  # seconds to wait for another process to release the folder
RESTORE = "restore it, or choose another hydra.run.dir="


class RunIdentity(NamedTuple):
    """Id, name and sweep of a run, for loggers, and where it resumes.

    Attributes:
        id: the same each time the run is resumed.
        name: the overrides, or the folder's name.
        group: the sweep that the run belongs to.
        resumed_at: the last step before this start of the run; None for the first start.
    """

    id: str | None = None
    name: str | None = None
    group: str | None = None
    resumed_at: int | None = None

    @property
    def last_valid_step(self) -> int:
        """The last step whose log entries hold; later ones will be logged again. −1 if none hold."""
        return self.resumed_at or -1


class RunFolder:
    """The files of a run; metrics.json or failure.txt is written at its end."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.overrides = self.root / "overrides.yaml"
        self.id = self.root / "run_id"
        self.checkpoints = self.root / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.pictures = self.root / "pictures"
        self.curves = self.root / "metrics.csv"
        self.profile = self.root / "profile.csv"
        self.schedule = self.root / "schedule.csv"
        self.metrics = self.root / "metrics.json"
        self.examples = self.root / "examples.npz"
        self.samples = self.root / "samples.npz"
        self.failure = self.root / "failure.txt"

    def check(self, config: DictConfig, resume: bool) -> None:
        """Check that a run of ``config`` may start here, or resume.

        Raises:
            InvalidInput: a file in the place of the folder. Without ``resume``: the result or checkpoint of an earlier run.
                With ``resume``: a run of other settings, or whose files were changed, or a result or checkpoint that cannot
                be matched to a run.
        """
        self._check_place()
        written = [path for path in (self.metrics, *self.checkpoints.glob("*.ckpt")) if path.exists()]
        if resume:
            if written and not (self.config.exists() and self.id.exists()):  # start() writes both before any result
                raise InvalidInput(
                    f"{written[0]} lies without the config.yaml and run_id of its run: choose another hydra.run.dir=, or "
                    "restore them"
                )
            if self.config.exists():
                with reading(self.config, RESTORE):
                    recorded = migrate_config(dict(read_yaml(self.config).items()))
                check_same_settings(self.root, recorded, config)
        elif self.metrics.exists():
            raise InvalidInput(
                f"{self.root} holds an earlier run's result: add resume=true to show it, or to extend it with more "
                "trainer.max_steps=, or choose another hydra.run.dir="
            )
        elif written:
            raise InvalidInput(
                f"{self.root} holds an earlier run that did not finish: add resume=true, or choose another hydra.run.dir="
            )

    def check_unused(self) -> None:
        """Raise InvalidInput if a command other than vdm-train would overwrite a run or a result."""
        self._check_place()
        for path in (self.id, self.metrics, self.samples):
            if path.exists():
                raise InvalidInput(f"{self.root} holds an earlier {path.name}: choose another hydra.run.dir=")

    def _check_place(self) -> None:
        if any(each.is_file() for each in (self.root, *self.root.parents)):
            raise InvalidInput(not_a_folder_message(self.root))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; wait up to ``LOCK_TIMEOUT_S`` for a process that is about to end.

        Raises:
            InvalidInput: another process trains here; or the folder was removed while the lock was held.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock", timeout=LOCK_TIMEOUT_S, poll_interval=1)
        try:
            self._acquire(lock)
            yield
        except FileNotFoundError as error:
            if self.config.exists() or not Path(error.filename or "").is_relative_to(self.root):
                raise
            raise InvalidInput(
                f"{error.filename} is gone: its folder was removed while the run trained; put it back and add resume=true, "
                "or start again"
            ) from error
        finally:
            lock.release()

    def check_there(self) -> None:
        """Raise FileNotFoundError, which ``locked`` explains, if the folder of a started run was removed or replaced."""
        if not self.id.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.id))

    def _acquire(self, lock: BaseFileLock) -> None:
        try:
            lock.acquire()
        except Timeout as error:
            raise InvalidInput(
                f"{self.root} is in use by another process that trains there: wait for it, or end it first"
            ) from error
        except (OSError, NotImplementedError):  # a file system without locks
            return

    def start(self, config: DictConfig, overrides: Sequence[str]) -> str:
        """Write the resolved config and the overrides, and return the run's id, which stays the same on resuming.

        Hydra writes its own record even for a command that is then refused, so that record is not the run's.
        """
        write_atomically(self.config, OmegaConf.to_yaml(config, resolve=True).encode())
        write_atomically(self.overrides, OmegaConf.to_yaml(OmegaConf.create(list(overrides))).encode())
        for folder in (self.root, self.checkpoints):
            remove_remnants(folder)
        self.failure.unlink(missing_ok=True)
        if not self.id.exists():
            write_atomically(self.id, uuid.uuid4().hex[:12].encode())
        return read_text(self.id)

    def extends(self, config: DictConfig) -> int | None:
        """Return the number of steps of the run here if ``config`` asks for more, which extends it; otherwise None."""
        if not self.config.exists():
            return None
        with reading(self.config, RESTORE):
            before, now = read_yaml(self.config)["trainer"]["max_steps"], config.trainer.max_steps
        return before if is_longer(before, now) else None

    def keep_earlier_result(self, steps: int) -> None:
        """Rename the result of a run that is going to be extended beyond ``steps``."""
        if self.metrics.exists():
            os.replace(self.metrics, self.metrics.with_stem(f"metrics_of_{steps}_steps"))

    def result(self) -> dict[str, Estimate] | None:
        """Return the bounds of a finished run in bits/dim on ``test`` and, after a validation, ``val``; otherwise None."""
        if not self.metrics.exists():
            return None
        with reading(self.metrics, RESTORE):
            metrics = read_json(self.metrics)
            if was_edited(metrics):
                raise InvalidInput(f"{self.metrics} was changed after the run wrote it: {RESTORE}")
            stages = ("test", "val") if "val" in metrics else ("test",)
            return {name: read_estimate(metrics[name]["bits_per_dim"]) for name in stages}

    def recorded_overrides(self) -> list[str]:
        """Return the overrides of the run's command; before its start, those that Hydra recorded."""
        records = [path for path in (self.overrides, self.root / ".hydra" / "overrides.yaml") if path.exists()]
        return [str(line) for line in read_yaml(records[0])] if records else []

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json atomically, with the SHA-256 of its content and of metrics.csv in its provenance.

        NaN and infinity, which JSON lacks, become null.
        """
        curve = {"curve_sha256": file_sha256(self.curves)} if self.curves.exists() else {}
        whole = {**metrics, "provenance": {**metrics.get("provenance", {}), **curve}}
        whole = json_values(whole)
        whole["provenance"][DIGEST] = digest(whole)
        write_json(self.metrics, whole)


DIGEST = "metrics_sha256"  # entry of the provenance in metrics.json: the SHA-256 of everything else in the file


def digest(metrics: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of metrics.json without its own digest."""
    facts = {name: value for name, value in metrics["provenance"].items() if name != DIGEST}
    plain = shown(json.loads(json.dumps({**metrics, "provenance": facts})))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def was_edited(metrics: Mapping[str, Any]) -> bool:
    """Return whether the content of metrics.json differs from what was written; files of earlier versions do not tell."""
    facts = metrics.get("provenance")
    return isinstance(facts, Mapping) and DIGEST in facts and facts[DIGEST] != digest(metrics)


def as_metrics(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Return estimates in bits/dim as entries of metrics.json: their fields, and the 95 % interval over the draws."""
    entries = {}
    for name, estimate in estimates.items():
        low, high = estimate.interval()
        entries[name] = json_values({**estimate._asdict(), "low": low, "high": high})
    return entries


def read_estimate(entry: Mapping[str, Any]) -> Estimate:
    """Return the estimate of an entry of metrics.json; TypeError, ValueError or OverflowError if it is malformed."""
    fields = {"df": math.nan} | {name: entry[name] for name in Estimate._fields if name in entry}
    if fields["df"] is None:
        fields["df"] = math.inf
    return Estimate(**{name: math.nan if value is None else float(value) for name, value in fields.items()})
