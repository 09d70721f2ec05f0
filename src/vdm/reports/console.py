"""What a command prints at its end."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from vdm.errors import printable
from vdm.estimate import Estimate
from vdm.evaluation import Result
from vdm.terms import TERM_LABELS

ERRORS = (
    "mc_se: standard error over the draws, the data fixed. "
    "data_se: over the examples; it includes the draws' part, so do not add mc_se to it."
)


class Table(NamedTuple):
    """The first ``words`` columns are text and the others numbers; cells are shown whole and as they are, whatever they say.

    On a console that is too narrow for the table a row becomes a block of lines, one a cell.

    Attributes:
        headline: the first row is in bold.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: int = 1
    headline: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Grid | Text]:
        made = self._grid()
        yield _line(self.title, "italic")
        if made.__rich_measure__(console, options.update(max_width=10_000)).maximum <= options.max_width:
            yield made
        else:
            yield from self._blocks()
        if self.caption:
            yield Text(printable(self.caption), style="dim italic")

    def _blocks(self) -> Iterator[Text]:
        for row in self.rows:
            cells, names = [printable(cell) for cell in row], [printable(heading) for heading in self.headings]
            first = ", ".join(cells[: self.words]) if self.words else f"{names[0]} {cells[0]}"
            yield _line(first, "bold")
            rest = list(zip(names, cells, strict=True))[max(1, self.words) :]
            wide = max((cell_len(name) for name, _ in rest), default=0)
            yield from (_line(f"  {name}{' ' * (wide - cell_len(name))}  {cell}") for name, cell in rest if cell)

    def _grid(self) -> Grid:
        made = Grid()
        for column, heading in enumerate(self.headings):
            widest = max((cell_len(row[column]) for row in self.rows), default=0)
            folded = "\n".join(textwrap.wrap(heading, max(12, widest), break_long_words=False))
            made.add_column(_literal(folded), justify="left" if column < self.words else "right", no_wrap=True)
        for number, row in enumerate(self.rows):
            made.add_row(*map(_literal, row), style="bold" if self.headline and number == 0 else "")
        return made


def _literal(text: str) -> str:
    return escape(printable(text))


def _line(text: str, style: str = "") -> Text:
    """One that is longer than the console is left to the terminal to fold."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ignore")


def bound_table(title: str, estimates: Mapping[str, Estimate]) -> Table:
    """The bound and its terms in bits/dim, with both standard errors."""
    rows = [(TERM_LABELS.get(name, f"  {name.replace('_', ' ')}"), *found.shown()) for name, found in estimates.items()]
    return Table(title, ("term", "bits/dim", "mc_se", "data_se"), rows, ERRORS, headline=True)


def in_words(stage: str, found: Estimate) -> str:
    """The bound of an evaluated set with both errors, in a line."""
    value, mc_se, data_se = found.shown()
    return f"{stage} {value} bits/dim, ± {mc_se} (draws), ± {data_se} (examples)"


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
    return Table("every estimate", headings, rows, "\n".join(caption))


def warned(warnings: Iterable[str]) -> list[str]:
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
    """Print to standard output; paths and other lines are left to the terminal to fold."""
    console = Console()
    for part in parts:
        console.print(part, highlight=False, crop=False, soft_wrap=isinstance(part, str))


def beside(command: str) -> str:
    """How to call another of this project's commands from where this one was called."""
    other = (Path.cwd() / sys.argv[0]).with_name(command)
    return near(other) if other.exists() and other.is_relative_to(Path.cwd()) else command


def near(path: Path) -> str:
    """The path as a person here would type it, relative to the working folder where it lies below it, for ``show``."""
    return _literal(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def pictures(folder: Path) -> str:
    """The PNG files of a run's folder of pictures; those of samples over training as a count."""
    there = sorted(folder.glob("*.png"))
    final = [path for path in there if not path.stem.startswith("samples_step_")]
    rest = [f"{near(folder)}/samples_step_*.png ({len(there) - len(final)})"] if len(there) > len(final) else []
    return listing("pictures", [*map(near, final), *rest])


def listing(heading: str, lines: Iterable[str]) -> str:
    """A heading with indented lines."""
    return "\n".join([f"[bold]{heading}[/bold]", *(f"  {line}" for line in lines)])
