"""The folder of one run: what lies in it, who may begin there, and what it says of itself."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.runs.files import a_file_where, remove_remnants, write_atomically
from vdm.runs.migration import migrate_config
from vdm.runs.reading import read_yaml, reading_own_file


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


HELD_FOR_S = 10
"""Seconds that a run waits for another process to leave its folder."""

HOW_NOT_WHAT = (
    "resume",
    "output_dir",
    "callbacks",
    "data.cache",
    "data.device",
    "data.workers",
    "fid",
    "logger",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)
"""Settings that may change when a run goes on: where it runs and what watches it."""


class RunFolder:
    """A run's config.yaml, overrides.yaml, run_id, checkpoints/, pictures/, three CSV files, and metrics.json or
    failure.txt."""

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
        self.samples = self.root / "samples.npz"
        self.failure = self.root / "failure.txt"

    def check(self, config: DictConfig, resume: bool) -> None:
        """Whether ``config`` may run here.

        Raises:
            InvalidInput: a file in the folder's place; without ``resume``, another run's result or checkpoint; with it, a
                run of other settings, one whose files were changed, or a result or checkpoint of nobody knows which run.
        """
        self._check_place()
        left = [path for path in (self.metrics, *self.checkpoints.glob("*.ckpt")) if path.exists()]
        if resume:
            if left and not (self.config.exists() and self.id.exists()):  # begin() writes both before there is anything
                raise InvalidInput(
                    f"{left[0]} lies without the config.yaml and run_id of the run that it is of: choose another "
                    "hydra.run.dir=, or restore them"
                )
            if self.config.exists():
                with reading_own_file(self.config):
                    own = migrate_config(dict(read_yaml(self.config).items()))
                check_same_settings(self.root, own, config)
        elif self.metrics.exists():
            raise InvalidInput(f"{self.root} holds an earlier run's result: choose another hydra.run.dir=, or remove it")
        elif left:
            raise InvalidInput(
                f"{self.root} holds an earlier run that did not finish: add resume=true, or choose another hydra.run.dir="
            )

    def check_unused(self) -> None:
        """Raises InvalidInput where a file, or a run or result lies, which what is not training would replace."""
        self._check_place()
        for path in (self.id, self.metrics, self.samples):
            if path.exists():
                raise InvalidInput(f"{self.root} holds an earlier {path.name}: choose another hydra.run.dir=")

    def _check_place(self) -> None:
        if any(each.is_file() for each in (self.root, *self.root.parents)):
            raise InvalidInput(a_file_where(self.root))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for this process alone, until it leaves or ends; one that has just been told to end is waited for.

        Raises:
            InvalidInput: another process trains here; or the folder that ``begin`` wrote to was removed meanwhile.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        write = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for attempt in range(HELD_FOR_S + 1):
                try:
                    fcntl.lockf(write, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if attempt == HELD_FOR_S:
                        raise InvalidInput(
                            f"{self.root} is in use by another process that trains there: wait for it, or end it first"
                        ) from error
                    time.sleep(1)
                except OSError:  # a file system without locks
                    break
            yield
        except FileNotFoundError as error:
            if self.config.exists() or not Path(error.filename or "").is_relative_to(self.root):
                raise
            raise InvalidInput(
                f"{error.filename} is gone: its folder was removed while the run trained; put it back and add resume=true, "
                "or begin anew"
            ) from error
        finally:
            os.close(write)

    def start(self, config: DictConfig, overrides: Sequence[str]) -> str:
        """Keep the resolved config and what was told on the command line, and give the run's id, which stays the same when
        it is resumed. Hydra's own record is not the run's: it is written before a command that may not run here is refused.
        """
        write_atomically(self.config, OmegaConf.to_yaml(config, resolve=True).encode())
        write_atomically(self.overrides, OmegaConf.to_yaml(OmegaConf.create(list(overrides))).encode())
        for folder in (self.root, self.checkpoints):
            remove_remnants(folder)
        self.failure.unlink(missing_ok=True)
        if not self.id.exists():
            write_atomically(self.id, uuid.uuid4().hex[:12].encode())
        return self.id.read_text()

    def result(self) -> dict[str, Estimate] | None:
        """The bounds in bits/dim of the sets that a finished run evaluated: ``test``, and ``val`` if it had a validation."""
        if not self.metrics.exists():
            return None
        with reading_own_file(self.metrics):
            metrics = json.loads(self.metrics.read_text())
            stages = ("test", "val") if "val" in metrics else ("test",)
            return {name: read_estimate(metrics[name]["bits_per_dim"]) for name in stages}

    def recorded_overrides(self) -> list[str]:
        """What the run was told on its command line; of one that has not begun, what Hydra noted."""
        found = [path for path in (self.overrides, self.root / ".hydra" / "overrides.yaml") if path.exists()]
        return [str(line) for line in read_yaml(found[0])] if found else []

    def note_failure(self, error: Exception) -> None:
        """One line in failure.txt, for those who look at the folder later, if it is still there."""
        if not self.root.is_dir():
            return
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        with suppress(InvalidInput):  # where nothing can be written, the first reason is the one to hear
            write_atomically(self.failure, f"{reason}\n".encode())

    def write_metrics(self, metrics: Mapping[str, object]) -> None:
        """metrics.json, whole or not at all."""
        write_atomically(self.metrics, (json.dumps(metrics, indent=2) + "\n").encode())


def read_estimate(entry: Mapping[str, Any]) -> Estimate:
    """An estimate as it stands in metrics.json; TypeError, ValueError or OverflowError of what is none."""
    return Estimate(**{name: float(value) for name, value in entry.items()})


def check_same_settings(place: Path, own: Mapping[str, Any], config: DictConfig) -> None:
    """Raises InvalidInput where ``own``, the settings of what lies at ``place``, are not ``config`` in what a run is."""
    before, now = dict(_leaves(own)), dict(_leaves(OmegaConf.to_container(config, resolve=True)))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) and not any(f"{name}.".startswith(f"{free}.") for free in HOW_NOT_WHAT):
            raise InvalidInput(
                f"{place} holds a run with {name}={before.get(name)}, not {now.get(name)}: resume it with its own "
                "settings, or choose another hydra.run.dir="
            )


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def as_metrics(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Estimates as they stand in ``metrics.json``, in bits/dim."""
    return {name: estimate._asdict() for name, estimate in estimates.items()}
