"""Metrics in one CSV file."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from vdm.runs.files import writing
from vdm.runs.tables import read_rows, write_rows
from vdm.training.loggers.base import LocalLogger


class CsvLogger(LocalLogger):
    """Write one row per ``log_metrics`` call, with a column ``step`` and one column per metric; missing values are empty.

    The row is on disk when ``log_metrics`` returns. Earlier rows of the file stay; ``truncate_after`` removes those that a
    resumed run will log again.
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
            with writing(self.path), self.path.open("r+", newline="") as file:  # "a" would create a file without a header
                file.seek(0, io.SEEK_END)
                csv.DictWriter(file, self._columns).writerow(row)
            return
        columns, rows = read_rows(self.path)
        self._columns = [*columns, *(name for name in row if name not in columns)]
        write_rows(self.path, self._columns, [*rows, {name: str(value) for name, value in row.items()}])
