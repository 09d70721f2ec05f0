"""The numbers of a run over its steps, in one CSV file that is whole at every moment."""

import csv
import io
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from vdm.training.files import write_atomically


class LocalLogger(Logger, ABC):
    """A logger into the run's own folder, where the config stands beside it."""

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """They stand in config.yaml."""


class MetricsFile(LocalLogger):
    """``metrics.csv``: a column ``step``, one column a metric, a row each time metrics come; empty where there is none.

    Every row is on disk when ``log_metrics`` returns. Rows that are there already are kept: see ``cut_back``.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": 0 if step is None else step, **metrics}
        if not self._columns:
            self._columns, _ = read_rows(self.path)
        if set(row) <= set(self._columns):
            with self.path.open("r+", newline="") as file:  # not "a", which would begin one without a heading
                file.seek(0, io.SEEK_END)
                csv.DictWriter(file, self._columns).writerow(row)
            return
        columns, rows = read_rows(self.path)
        self._columns = [*columns, *(name for name in row if name not in columns)]
        write_rows(self.path, self._columns, [*rows, {name: str(value) for name, value in row.items()}])


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """(columns, rows) of a file, without a last line that was cut short; nothing if there is no file."""
    if not path.exists():
        return [], []
    with path.open(newline="") as file:
        whole = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(whole)
    return list(reader.fieldnames or []), list(reader)


def read_curves(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """(steps, values) of every column that has any; OverflowError of a step that no figure takes."""
    columns, rows = read_rows(path)
    curves = {}
    for name in columns[1:]:
        found = [(int(np.int64(row["step"])), float(row[name])) for row in rows if row[name]]
        curves[name] = ([step for step, _ in found], [value for _, value in found])
    return curves


def write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """The whole file, or none of it."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """More rows of a file whose columns never change, which is begun if it is not there."""
    begun = path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not begun:
            writer.writerow(columns)
        writer.writerows(rows)


def cut_back(path: Path, step: int) -> None:
    """Drop what a run that goes on from the end of ``step`` will log again: later rows, and the test after training."""
    columns, rows = read_rows(path)
    if columns:
        tested = [name for name in columns if name.startswith("test/")]
        kept = [row for row in rows if int(row["step"]) <= step and not any(row[name] for name in tested)]
        write_rows(path, columns, kept)
