"""An HTML page of sections with tables and pictures, complete in one file."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vdm.reports.table import Table, text_tables
from vdm.runs.files import write_atomically

INK = {"#000000": "currentColor", "#ffffff": "none"}
"""Colours of figures that follow the page, light or dark: lines and paper."""


class Picture(NamedTuple):
    """A PNG file, to be written as ``name``.png beside the page, which shows ``svg`` instead if there is one."""

    name: str
    caption: str
    png: bytes
    svg: Markup = Markup("")

    @classmethod
    def of(cls, name: str, caption: str, figure: Figure) -> "Picture":
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=130)
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        drawing = re.sub("|".join(INK), lambda colour: INK[colour[0]], svg.getvalue())
        unnamed = re.sub(r' id="\w+_\d+"', "", drawing[drawing.index("<svg") :])  # the same names in every figure
        return cls(name, caption, png.getvalue(), Markup(unnamed))

    @property
    def inline(self) -> str:
        """The PNG file in base64, for a data: address."""
        return base64.b64encode(self.png).decode()


class Section(NamedTuple):
    """A section of a page: ``note`` names the source, ``folded`` is text to unfold, ``small`` pictures are thumbnails."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: str = ""
    small: bool = False

    def __bool__(self) -> bool:
        """Whether the section has content besides its title and note."""
        return bool(self.tables or self.pictures or self.folded)


class Page(NamedTuple):
    """A page; sections without content are left out, and the state of a run is the style of ``lead``.

    ``about`` says in one line what the page is on: data set, model, steps, date, device, version.
    """

    title: str
    sections: Sequence[Section]
    state: str = ""
    lead: str = ""
    about: str = ""


def warnings_section(rows: Sequence[Sequence[str]]) -> Section:
    """Return the section of warnings from metrics.json: (sentence) or (run, sentence) a row."""
    return Section("Warnings", "metrics.json", text_tables(rows))


def html_of(page: Page) -> str:
    """Return the page as HTML that loads no other file; all text is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    sections = [section for section in page.sections if section]
    return environment.get_template("page.html").render(page=page._replace(sections=sections))


def write_page(folder: Path, page: Page) -> list[Path]:
    """Write report.html and its pictures; return their paths, the page first."""
    paths = [folder / "report.html"]
    write_atomically(paths[0], html_of(page).encode())
    for section in page.sections:
        for picture in section.pictures:
            paths.append(folder / f"{picture.name}.png")
            write_atomically(paths[-1], picture.png)
    return paths
