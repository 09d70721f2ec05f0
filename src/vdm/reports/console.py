"""Tables and lists that the commands print."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm.estimate import Estimate
from vdm.evaluation import Result
from vdm.reports.table import Table, escape_markup
from vdm.terms import LABELS

ERRORS_NOTE = (
    "mc_se: standard error over the draws, the data fixed. "
    "data_se: standard error over the examples; it includes the draws' part, so do not add mc_se to it."
)


ERROR_HEADINGS = ("bits/dim", "mc_se", "data_se", "95 %")
"""An estimate's columns; see ``error_cells``."""

INTERVAL_NOTE = "95 %: interval over the draws, by mc_se's degrees of freedom and the draws' skewness."


def bound_table(title: str, estimates: Mapping[str, Estimate]) -> Table:
    """Return the bound and its terms in bits/dim, with the interval over the draws and both standard errors."""
    rows = [(LABELS.get(name, f"  {name.replace('_', ' ')}"), *error_cells(each)) for name, each in estimates.items()]
    return Table(("term", *ERROR_HEADINGS), rows, title, f"{INTERVAL_NOTE} {ERRORS_NOTE}", bold_first=True)


def error_cells(estimate: Estimate) -> tuple[str, str, str, str]:
    """Return an estimate as the cells of ``ERROR_HEADINGS``."""
    return *estimate.shown(), estimate.shown_interval()


def bound_sentence(stage: str, bound: Estimate) -> str:
    """Return one line on the bound of an evaluated set, with both standard errors."""
    value, mc_se, data_se = bound.shown()
    return f"{stage} {value} bits/dim, ± {mc_se} (draws), ± {data_se} (examples)"


def estimates_table(own: Estimate, facts: Mapping[str, Any], results: Sequence[Result]) -> Table:
    """Return all estimates of −log p(x) in bits/dim, the run's own bound first."""
    split = facts["data"]["splits"][facts["split"]]
    notes = [f"{r.label}: {r.note}." for r in results if r.note]
    caption = [
        INTERVAL_NOTE,
        f"{facts['weights']} weights, data {split['sha256']}, {facts['precision']} (trajectories and flow in float64).",
        "Rows with fewer examples use the first of the split. The bounds and the probability flow have no fixed order.",
        *notes,
    ]
    draws, seed = facts["repeats"], facts["draws_seed"]
    lines = [("bound, the run's own T", own, split["size"], draws, split["size"] * draws, seed)]
    lines += [(r.label, r.terms["bits_per_dim"], r.examples, r.draws, r.calls, r.facts["seed"]) for r in results]
    rows = [
        (label, *error_cells(bound), str(n), f"{count:,.0f}", f"{calls:,}", str(key))
        for label, bound, n, count, calls, key in lines
    ]
    headings = ("estimate", *ERROR_HEADINGS, "examples", "draws", "calls", "seed")
    return Table(headings, rows, "estimates of −log p(x)", "\n".join(caption))


def warnings_listing(sentences: Iterable[str]) -> list[str]:
    """Return the warnings as one list, or nothing if there are none."""
    lines = [escape_markup(sentence) for sentence in sentences]
    return [listing("warnings", lines)] if lines else []


def samples_listing(entry: Mapping[str, Any]) -> str:
    """Return FID and other sample metrics with their settings, from the ``samples`` entry of metrics.json."""
    numbers = [f"{name} {value:.4g}" for name, value in entry.items() if isinstance(value, float)]
    data = entry["data"]
    steps = f" in {entry['steps']} steps of {entry['sampler']}" if "steps" in entry else ""
    notes = [entry["note"]] if "note" in entry else []
    return listing(f"{entry['n']} samples{steps}, against {data['examples']} {data['split']} images", [*numbers, *notes])


def pictures_listing(folder: Path) -> str:
    """Return the paths of the PNG files in ``folder``; the samples over training are counted."""
    paths = sorted(folder.glob("*.png"))
    final = [path for path in paths if not path.stem.startswith("samples_step_")]
    counted = len(paths) - len(final)
    rest = [f"{short_path(folder)}/samples_step_*.png ({counted})"] if counted else []
    return listing("pictures", [*map(short_path, final), *rest])


def listing(heading: str, lines: Iterable[str]) -> str:
    """Return a heading with indented lines."""
    return "\n".join([f"[bold]{heading}[/bold]", *(f"  {line}" for line in lines)])


def show(*parts: object) -> None:
    """Print to standard output; lines of text are left to the terminal to fold."""
    console = Console()
    for part in parts:
        console.print(part, highlight=False, crop=False, soft_wrap=isinstance(part, str))


def sibling_command(name: str) -> str:
    """Return how to call another command of this package: by its path if the running command lies below this folder."""
    path = (Path.cwd() / sys.argv[0]).with_name(name)
    return short_path(path) if path.exists() and path.is_relative_to(Path.cwd()) else name


def short_path(path: Path) -> str:
    """Return ``path`` for ``show``, relative to the working folder if it lies below it."""
    return escape_markup(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
