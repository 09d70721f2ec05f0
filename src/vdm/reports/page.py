"""What the reports have in common: sections of tables and pictures, as one HTML page that needs nothing else."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from vdm.runs.files import write_atomically


class Table(NamedTuple):
    """Cells as they are shown: numbers to the right, or ``words`` to the left."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


class Picture(NamedTuple):
    """A PNG file and what is to be seen on it."""

    name: str
    caption: str
    png: bytes

    @classmethod
    def of(cls, name: str, caption: str, figure: Figure) -> "Picture":
        """A figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        return cls(name, caption, buffer.getvalue())

    @property
    def inline(self) -> str:
        """For a data: address."""
        return base64.b64encode(self.png).decode()


class Section(NamedTuple):
    """A heading with what stands below it; ``note`` says where that comes from, ``folded`` is text to unfold.

    small: whether many pictures stand side by side.
    """

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: str = ""
    small: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.tables or self.pictures or self.folded)


class Page(NamedTuple):
    """``state`` is ``finished``, ``failed`` or ``unfinished``, or nothing; empty sections are left out."""

    title: str
    state: str
    lead: str
    sections: Sequence[Section]


def warnings_section(said: Sequence[tuple[str, str]]) -> Section:
    """(run, sentence), as they stand in the runs' metrics.json."""
    return Section("Warnings", "metrics.json of each run", [Table((), said, words=True)] if said else [])


def html_of(page: Page) -> str:
    """The page, complete in itself; whatever it shows is shown as text, never as markup."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    shown = page._replace(sections=[section for section in page.sections if section])
    return environment.get_template("page.html").render(page=shown)


def write_page(folder: Path, page: Page) -> list[Path]:
    """report.html, and every picture beside it; the paths, the page first."""
    written = [folder / "report.html"]
    write_atomically(written[0], html_of(page).encode())
    for section in page.sections:
        for picture in section.pictures:
            written.append(folder / f"{picture.name}.png")
            write_atomically(written[-1], picture.png)
    return written
