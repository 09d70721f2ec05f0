"""The CSV files of a run: metrics.csv, profile.csv and schedule.csv."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vdm.curves import Curve
from vdm.errors import InvalidInput, printable
from vdm.gamma_profile import Bin, Profile
from vdm.runs.bounds import check_file
from vdm.runs.files import write_atomically, writing

PROFILE_COLUMNS = ("step", "gamma_low", "gamma_high", "draws", "mean", "variance")
SCHEDULE_COLUMNS = ("step", "t", "gamma", "snr")
STANDARD_ERRORS = ("_mc_se", "_data_se")  # ends of the names of an estimate's standard errors
MOST_BYTES, MOST_COLUMNS, MOST_CELLS = 2**28, 4096, 2 * 10**7  # a million rows of 20 columns
WANDB_STEP = "trainer/global_step"  # the metric on the x axis of W&B: optimiser steps taken


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return (columns, rows) of a CSV file without an incomplete last line; both are empty if there is no file."""
    if not path.exists():
        return [], []
    check_file(path, MOST_BYTES)
    with path.open(newline="") as file:
        complete = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(complete)
    columns = [printable(name) for name in reader.fieldnames or []]
    if len(columns) > MOST_COLUMNS or len(columns) * len(complete) > MOST_CELLS:  # short lines are filled up
        raise InvalidInput(f"{path} has {len(complete):,} lines of {len(columns):,} columns: it is not what vdm writes")
    reader.fieldnames = columns
    return columns, list(reader)


def read_curves(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return (steps, values) of every column of metrics.csv; OverflowError for a step that matplotlib cannot draw."""
    columns, rows = read_rows(path)
    curves = {}
    for name in columns[1:]:
        points = [(int(np.int64(row["step"])), float(row[name])) for row in rows if row[name]]
        curves[name] = ([step for step, _ in points], [value for _, value in points])
    return curves


def write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Write a CSV file atomically."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """Append rows to a CSV file; a new file gets ``columns`` as its header."""
    exists = path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not exists:
            writer.writerow(columns)
        writer.writerows(rows)


def truncate_after(path: Path, step: int) -> None:
    """Remove the rows that a run resumed at ``step`` will log again: those of later steps, and the final test."""
    columns, rows = read_rows(path)
    if columns:
        tested = [name for name in columns if name.startswith("test/")]
        kept = [row for row in rows if int(row["step"]) <= step and not any(row[name] for name in tested)]
        write_rows(path, columns, kept)


def read_profiles(path: Path) -> dict[int, Profile]:
    """Return the profiles in profile.csv by step, in the order of training; empty if there is no file."""
    profiles: dict[int, list[Bin]] = {}
    for row in read_rows(path)[1]:
        low, high, draws, mean, variance = (row[name] for name in PROFILE_COLUMNS[1:])
        entry = Bin(float(low), float(high), int(draws), float(mean), float(variance))
        profiles.setdefault(int(row["step"]), []).append(entry)
    return dict(profiles)


def read_schedules(path: Path) -> dict[int, Curve]:
    """Return (times, γ) in schedule.csv by step, in the order of training; empty if there is no file."""
    schedules: dict[int, tuple[list[float], list[float]]] = {}
    for row in read_rows(path)[1]:
        times, gammas = schedules.setdefault(int(row["step"]), ([], []))
        times.append(float(row["t"]))
        gammas.append(float(row["gamma"]))
    return dict(schedules)
