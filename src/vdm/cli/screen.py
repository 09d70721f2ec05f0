"""What a command prints at its end."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vdm.evaluation import Estimate
from vdm.pictures import TERM_LABELS


def bound_table(title: str, estimates: Mapping[str, Estimate]) -> Table:
    """The bound and its terms in bits/dim, with both standard errors."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = "mc_se: standard error over t and noise, data fixed. data_se: over examples."
    for heading in ("term", "bits/dim", "mc_se", "data_se"):
        table.add_column(heading, justify="left" if heading == "term" else "right")
    for name, estimate in estimates.items():
        style = "bold" if name == "bits_per_dim" else ""
        table.add_row(TERM_LABELS.get(name, f"  {name.replace('_', ' ')}"), *(f"{number:.4f}" for number in estimate), style=style)
    return table


def show(*parts: object) -> None:
    """Print to standard output, wide enough for a path."""
    console = Console(soft_wrap=True)
    for part in parts:
        console.print(part, highlight=False)


def beside(command: str) -> str:
    """How to call another of this project's commands from where this one was called."""
    own = Path(sys.argv[0])
    other = own.with_name(command)
    if not other.exists():
        return command
    return str(other.relative_to(Path.cwd())) if other.is_relative_to(Path.cwd()) else command


def listing(heading: str, lines: Iterable[str]) -> str:
    """A heading with indented lines."""
    return "\n".join([f"[bold]{heading}[/bold]", *(f"  {line}" for line in lines)])
