"""What a command prints at its end."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vdm.errors import printable
from vdm.evaluation import Estimate, Result
from vdm.pictures import TERM_LABELS


def table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    words: int = 1,
    headline: bool = False,
) -> Table:
    """A table whose first ``words`` columns are text and the others numbers; cells are shown as they are, whatever they say.

    Args:
        headline: the first row is in bold.
    """
    made = Table(title=_literal(title), title_justify="left", caption=_literal(caption) or None, caption_justify="left")
    for column, heading in enumerate(headings):
        made.add_column(_literal(heading), justify="left" if column < words else "right", no_wrap=column >= words)
    for number, row in enumerate(rows):
        made.add_row(*map(_literal, row), style="bold" if headline and number == 0 else "")
    return made


def _literal(text: str) -> str:
    return escape(printable(text))


def bound_table(title: str, estimates: Mapping[str, Estimate]) -> Table:
    """The bound and its terms in bits/dim, with both standard errors."""
    rows = [(TERM_LABELS.get(name, f"  {name.replace('_', ' ')}"), *found.shown()) for name, found in estimates.items()]
    caption = "mc_se: standard error over t and noise, data fixed. data_se: over examples."
    return table(title, ("term", "bits/dim", "mc_se", "data_se"), rows, caption, headline=True)


def estimates_table(own: Estimate, facts: Mapping[str, Any], results: Sequence[Result]) -> Table:
    """Every estimate of −log p(x) in bits/dim: one line each, below the run's own bound."""
    split = facts["data"]["splits"][facts["split"]]
    notes = [f"{r.label}: {r.note}." for r in results if r.note]
    caption = [
        f"{facts['weights']} weights, data {split['sha256']}, {facts['precision']} (trajectories and flow in float64).",
        "Fewer examples: the first of the split. No order holds between the bounds and the probability flow.",
        *notes,
    ]
    draws, seed = facts["repeats"], facts["draws_seed"]
    lines = [("bound, the run's own T", own, split["size"], draws, split["size"] * draws, seed)]
    lines += [(r.label, r.terms["bits_per_dim"], r.examples, r.draws, r.calls, r.facts["seed"]) for r in results]
    rows = [
        (label, *found.shown(), str(n), f"{count:,.0f}", f"{calls:,}", str(key))
        for label, found, n, count, calls, key in lines
    ]
    headings = ("estimate", "bits/dim", "mc_se", "data_se", "examples", "draws", "calls", "seed")
    return table("every estimate", headings, rows, "\n".join(caption))


def warned(warnings: Sequence[str]) -> list[str]:
    """The warnings as a listing, if there are any."""
    lines = [escape(printable(sentence)) for sentence in warnings]
    return [listing("to be read beside the number", lines)] if lines else []


def samples_listing(entry: Mapping[str, Any]) -> str:
    """FID and its relatives, with what they depend on."""
    numbers = [f"{name} {value:.4g}" for name, value in entry.items() if isinstance(value, float)]
    data = entry["data"]
    steps = f" in {entry['steps']} steps of {entry['sampler']}" if "steps" in entry else ""
    notes = [entry["note"]] if "note" in entry else []
    return listing(f"{entry['n']} samples{steps}, against {data['examples']} {data['split']} images", [*numbers, *notes])


def show(*parts: object) -> None:
    """Print to standard output, wide enough for a path."""
    console = Console(soft_wrap=True)
    console.width = max(console.width, 112)
    for part in parts:
        console.print(part, highlight=False)


def beside(command: str) -> str:
    """How to call another of this project's commands from where this one was called."""
    other = (Path.cwd() / sys.argv[0]).with_name(command)
    return near(other) if other.exists() and other.is_relative_to(Path.cwd()) else command


def near(path: Path) -> str:
    """The path as a person here would type it, relative to the working folder where it lies below it, for ``show``."""
    return _literal(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def listing(heading: str, lines: Iterable[str]) -> str:
    """A heading with indented lines."""
    return "\n".join([f"[bold]{heading}[/bold]", *(f"  {line}" for line in lines)])
