"""The CSV files of a run: metrics.csv, profile.csv and schedule.csv."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vdm.curves import Curve
from vdm.gamma_profile import Bin, Profile
from vdm.runs.files import write_atomically


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


def truncate_after(path: Path, step: int) -> None:
    """Drop what a run that goes on from the end of ``step`` will log again: later rows, and the test after training."""
    columns, rows = read_rows(path)
    if columns:
        tested = [name for name in columns if name.startswith("test/")]
        kept = [row for row in rows if int(row["step"]) <= step and not any(row[name] for name in tested)]
        write_rows(path, columns, kept)


STEP = "trainer/global_step"
"""The metric against which loggers draw all others: optimiser steps taken."""

PROFILE_COLUMNS = ("step", "gamma_low", "gamma_high", "draws", "mean", "variance")


def read_profiles(path: Path) -> dict[int, Profile]:
    """By step, in the order of training; empty if there is no file."""
    found: dict[int, list[Bin]] = {}
    for row in read_rows(path)[1]:
        low, high, draws, mean, variance = (row[name] for name in PROFILE_COLUMNS[1:])
        each = Bin(float(low), float(high), int(draws), float(mean), float(variance))
        found.setdefault(int(row["step"]), []).append(each)
    return dict(found)


SCHEDULE_COLUMNS = ("step", "t", "gamma", "snr")


def read_schedules(path: Path) -> dict[int, Curve]:
    """(times, γ) by step, in the order of training; empty if there is no file."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for row in read_rows(path)[1]:
        times, gammas = found.setdefault(int(row["step"]), ([], []))
        times.append(float(row["t"]))
        gammas.append(float(row["gamma"]))
    return dict(found)
