"""A table for a page or the console."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from vdm.errors import printable


class Table(NamedTuple):
    """Headings and rows of cells, which are shown in full and never read as markup.

    On a console that is too narrow, each row becomes a block with one line a cell.

    Attributes:
        title, caption: for the console; on a page they belong to the section.
        text_columns: how many of the first columns are text; the others are numbers, aligned right.
        bold_first: whether the first row is bold on the console.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    caption: str = ""
    text_columns: int = 1
    bold_first: bool = False

    @property
    def all_text(self) -> bool:
        """Whether there is no column of numbers."""
        return all(len(row) <= self.text_columns for row in self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable | Text]:
        grid = self._grid()
        yield _line(self.title, "italic")
        if grid.__rich_measure__(console, options.update(max_width=10_000)).maximum <= options.max_width:
            yield grid
        else:
            yield from self._blocks()
        if self.caption:
            yield Text(printable(self.caption), style="dim italic")

    def _blocks(self) -> Iterator[Text]:
        for row in self.rows:
            cells, names = [printable(cell) for cell in row], [printable(heading) for heading in self.headings]
            first = ", ".join(cells[: self.text_columns]) if self.text_columns else f"{names[0]} {cells[0]}"
            yield _line(first, "bold")
            rest = list(zip(names, cells, strict=True))[max(1, self.text_columns) :]
            width = max((cell_len(name) for name, _ in rest), default=0)
            yield from (_line(f"  {name}{' ' * (width - cell_len(name))}  {cell}") for name, cell in rest if cell)

    def _grid(self) -> RichTable:
        grid = RichTable()
        for column, heading in enumerate(self.headings):
            width = max((cell_len(row[column]) for row in self.rows), default=0)
            folded = "\n".join(textwrap.wrap(heading, max(12, width), break_long_words=False))
            justify = "left" if column < self.text_columns else "right"
            grid.add_column(escape_markup(folded), justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for number, row in enumerate(self.rows):
            grid.add_row(*map(escape_markup, row), style="bold" if self.bold_first and number == 0 else "")
        return grid


def text_tables(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> list[Table]:
    """Return one table of text, or an empty list if there are no rows."""
    return [Table(headings, rows, text_columns=max(map(len, rows)))] if rows else []


def escape_markup(text: str) -> str:
    """Return ``text`` so that rich prints it as it is."""
    return escape(printable(text))


def _line(text: str, style: str = "") -> Text:
    """Return a line that rich does not fold, so that the terminal does."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ignore")
