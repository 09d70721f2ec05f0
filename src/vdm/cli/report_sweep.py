"""``vdm-report sweep=FOLDER``: tables and figures over a sweep, as HTML, Markdown and CSV, from the files of its runs."""

import base64
import csv
import html
import io
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from vdm.cli import command, screen
from vdm.cli.sweep import Group, Run, groups, read_sweep
from vdm.errors import InvalidInput
from vdm.evaluation import TERMS
from vdm.figures import NONE, Curve, sweep_curves
from vdm.pictures import TERM_LABELS
from vdm.training.metrics_file import read_curves
from vdm.training.run_folder import write_atomically

HEADINGS = ("", "runs", *(TERM_LABELS[term] for term in TERMS))
NOTE = (
    "Test set, averaged weights, bits/dim: mean ± standard error over the seeds of the finished runs (none for one run). "
    "The evaluation's own errors stand in runs.csv."
)


def report(sweep: Path, output: Path) -> None:
    """Writes report.html (complete in itself), report.md, groups.csv, runs.csv, curves.png."""
    runs = read_sweep(sweep)
    found = groups(runs)
    rows = [_row(group) for group in found]
    figure = sweep_curves({group.label: _curves(group) for group in found})
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    contents = {
        "report.html": _html(sweep, runs, found, rows, picture.getvalue()),
        "report.md": _markdown(sweep, runs, rows),
        "groups.csv": _groups_csv(found),
        "runs.csv": _runs_csv(runs),
    }
    for name, text in contents.items():
        write_atomically(output / name, text.encode())
    write_atomically(output / "curves.png", picture.getvalue())
    table = Table(title=_heading(sweep, runs), title_justify="left", caption=NOTE, caption_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    screen.show(table, *(escape(f"{name}: {state}, {note}") for name, state, note in _open(runs)))
    screen.show(screen.listing("written", [str(output / name) for name in (*contents, "curves.png")]))


def _heading(sweep: Path, runs: Sequence[Run]) -> str:
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{counts[s]} {s}" for s in ("finished", "failed", "unfinished", "missing") if counts[s])
    return f"{sweep.name}: {len(runs)} runs, {states}"


def _row(group: Group) -> list[str]:
    cells = [group.label, f"{len(group.finished)} of {len(group.runs)}"]
    for term in TERMS:
        summary = group.summary(term)
        if summary is None:
            cells.append("—")
        else:
            cells.append(f"{summary.mean:.4f}" + ("" if math.isnan(summary.se) else f" ± {summary.se:.4f}"))
    return cells


def _open(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(settings, state, note) of the runs that have no result."""
    return [(_name(run), run.state, run.note) for run in runs if run.state != "finished"]


def _name(run: Run) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(run.settings.items()))


def _curves(group: Group) -> list[Curve]:
    paths = [run.folder.curves for run in group.runs if run.folder is not None and run.folder.curves.exists()]
    return [read_curves(path).get("val/bits_per_dim", NONE) for path in paths]


def _markdown(sweep: Path, runs: Sequence[Run], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    table = [line(HEADINGS), line([":--", *["--:"] * (len(HEADINGS) - 1)]), *map(line, rows)]
    rest = [f"- `{name}`: {state}, {note}" for name, state, note in _open(runs)]
    parts = [f"# {_heading(sweep, runs)}", NOTE, "\n".join(table), "![validation bound](curves.png)", "\n".join(rest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _groups_csv(found: Sequence[Group]) -> str:
    lines: list[list[object]] = [
        ["group", "runs", "finished", *(f"{term}{suffix}" for term in TERMS for suffix in ("", "_se"))]
    ]
    for group in found:
        summaries = [group.summary(term) or ("", "") for term in TERMS]
        lines.append([group.label, len(group.runs), len(group.finished), *(cell for pair in summaries for cell in pair)])
    return _csv(lines)


def _runs_csv(runs: Sequence[Run]) -> str:
    names = sorted({name for run in runs for name in run.settings})
    columns = [f"{term}{suffix}" for term in TERMS for suffix in ("", "_mc_se", "_data_se")]
    lines: list[list[object]] = [[*names, "state", "note", "folder", *columns]]
    for run in runs:
        numbers = [number for term in TERMS if term in run.test for number in run.test[term]]
        where = "" if run.folder is None else run.folder.root
        lines.append([*(run.settings.get(name, "") for name in names), run.state, run.note, where, *numbers])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    width, text = len(lines[0]), io.StringIO(newline="")
    csv.writer(text).writerows([*line, *[""] * (width - len(line))] for line in lines)
    return text.getvalue()


def _html(sweep: Path, runs: Sequence[Run], found: Sequence[Group], rows: Sequence[Sequence[str]], curves: bytes) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    def image(content: bytes, caption: str) -> str:
        source = base64.b64encode(content).decode()
        shown = html.escape(caption)
        return f'<figure><img alt="{shown}" src="data:image/png;base64,{source}"><figcaption>{shown}</figcaption></figure>'

    title = html.escape(_heading(sweep, runs))
    table = "".join([cells("th", HEADINGS), *(cells("td", row) for row in rows)])
    rest = "".join(cells("td", entry) for entry in _open(runs))
    samples = [(group.label, path.read_bytes()) for group in found if (path := _samples(group)) is not None]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
            "<style>body{font:15px sans-serif;max-width:75em;margin:2em auto}td,th{padding:.2em .8em;text-align:right}",
            "td:first-child{text-align:left}tr:nth-child(even){background:#f3f3f3}.side{display:flex;flex-wrap:wrap}",
            "figure{margin:.5em}img{max-width:100%}.side figure{width:20em}</style>",
            f"<h1>{title}</h1><p>{html.escape(NOTE)}</p><table>{table}</table>",
            f"<h2>Without a result</h2><table>{rest}</table>" if rest else "",
            image(curves, "validation bound over training, one line a run"),
            '<h2>Samples</h2><div class="side">',
            *(image(content, label) for label, content in samples),
            "</div></html>",
        ]
    )


def _samples(group: Group) -> Path | None:
    """The picture of the first finished run, so that all groups show the same sampling noise where they share a seed."""
    pictures = [run.folder.pictures / "samples.png" for run in group.finished if run.folder is not None]
    return next((path for path in pictures if path.exists()), None)


def main() -> None:
    try:
        given = OmegaConf.from_dotlist(sys.argv[1:])
        unknown = sorted(set(map(str, given)) - {"sweep", "output_dir"})
        if unknown:
            raise InvalidInput(f"there is no setting {unknown[0]!r}: vdm-report sweep=FOLDER takes output_dir= as well")
        sweep = Path(str(given.sweep))
        report(sweep, Path(str(given.get("output_dir", sweep / "report"))))
    except InvalidInput as error:
        command.stop(str(error))
