"""``vdm-report sweep=FOLDER``: tables and figures over a sweep, as HTML, Markdown and CSV, from the files of its runs."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.markup import escape

from vdm.curves import Curve
from vdm.errors import printable
from vdm.gamma_profile import Profile, one_t_variance
from vdm.plots.figures import profile_figure, sweep_curves, variance_figure
from vdm.reports import console
from vdm.reports.groups import Group, groups
from vdm.reports.page import Page, Picture, Section, warnings_section, write_page
from vdm.reports.page import Table as Cells
from vdm.runs.files import write_atomically
from vdm.runs.sweeps import Run, read_sweep
from vdm.terms import TERM_LABELS, TERMS

HEADINGS = ("", "runs", *(TERM_LABELS[term] for term in TERMS), "mc_se", "data_se", "one-t variance")

NOTE = (
    "Test set, averaged weights, bits/dim: mean ± standard error over the seeds of the finished runs (none for one seed; "
    "of the runs that repeat one, the first counts). "
    "± is over training seeds only; all runs share the test set and the draws, so it contains neither mc_se nor data_se. "
    f"Those are the total's, as means over the runs. {console.ERRORS} One-t variance: of one draw of t, example and noise "
    "at the end of training, in (bits/dim)²."
)

PROFILES = "profile.csv of the first finished run: its last draws, those of training since the validation before"


def report(sweep: Path, output: Path) -> None:
    """Writes report.html (complete in itself), its pictures, report.md, groups.csv, runs.csv."""
    runs = read_sweep(sweep)
    found = groups(runs)
    rows = [_row(group) for group in found]
    shown = _page(sweep, runs, found, rows)
    markdown = _markdown(shown, _warnings(runs), _open(runs), rows)
    texts = {"report.md": markdown, "groups.csv": _groups_csv(found), "runs.csv": _runs_csv(runs)}
    for name, text in texts.items():
        write_atomically(output / name, text.encode())
    written = write_page(output, shown)
    console.show(
        console.Table(shown.title, HEADINGS, rows, NOTE),
        *console.warned(f"{name}: {sentence}" for name, sentence in _warnings(runs)),
        *(escape(f"{name}: {state}, {note}") for name, state, note in _open(runs)),
        console.listing("written", [console.near(path) for path in (*written[:1], *(output / name for name in texts))]),
    )


def _page(sweep: Path, runs: Sequence[Run], found: Sequence[Group], rows: Sequence[Sequence[str]]) -> Page:
    curves = sweep_curves({group.label: _curves(group) for group in found})
    bound = Picture.of("curves", "validation bound over training, one line a run", curves)
    last = {group.label: profile for group in found for profile in _profiles(group)[:1]}
    levels = [
        Picture.of("profile", "where the bound comes from", profile_figure(last, ordered=False)),
        Picture.of("variance", "where its one-t estimate varies", variance_figure(last, ordered=False)),
    ]
    samples = [
        Picture(f"samples_{i}", group.label, path.read_bytes())
        for i, group in enumerate(found)
        if (path := _samples(group)) is not None
    ]
    rest = _open(runs)
    return Page(
        _heading(sweep, runs),
        "",
        "",
        [
            Section("Bound", NOTE, [Cells(HEADINGS, rows)]),
            warnings_section(_warnings(runs)),
            Section("Without a result", tables=[Cells((), rest, words=True)] if rest else []),
            Section("Over training", "metrics.csv of every run", pictures=[bound]),
            Section("Noise levels", PROFILES, pictures=levels if last else []),
            Section(
                "Samples", "of the first finished run, the same noise where runs share a seed", pictures=samples, small=True
            ),
        ],
    )


def _heading(sweep: Path, runs: Sequence[Run]) -> str:
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{counts[s]} {s}" for s in ("finished", "failed", "unfinished", "missing") if counts[s])
    return f"{printable(sweep.name)}: {len(runs)} runs, {states}"


def _row(group: Group) -> list[str]:
    total, *terms = (("—",) * 3 if (found := group.summary(term)) is None else found.shown() for term in TERMS)
    variances, seeds = [one_t_variance(profile) for profile in _profiles(group)], len(group.seeds)
    return [
        group.name,
        f"{len(group.finished)} of {len(group.runs)}" + (f", seeds: {seeds}" if seeds < len(group.finished) else ""),
        total[0],
        *(value for value, *_ in terms),
        *total[1:],
        f"{mean(variances):.3g}" if variances else "—",
    ]


def _profiles(group: Group) -> list[Profile]:
    """The last one of each seed's run that has any."""
    return [run.profile for run in group.seeds if run.profile]


def _open(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(settings, state, note) of the runs that have no result."""
    return [(_name(run), run.state, run.note) for run in runs if run.state != "finished"]


def _warnings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(settings, sentence) of the finished runs, and what is to be said of all of them."""
    said = [(_name(run), sentence) for run in runs for sentence in run.warnings]
    mixed = len({run.data for run in runs if run.state == "finished"}) > 1
    return [*said, *([("all", "the runs are on different data: compare those on the same only")] if mixed else [])]


def _name(run: Run) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(run.settings.items()))


def _curves(group: Group) -> list[Curve]:
    return [run.curve for run in group.runs if run.curve[0]]


def _markdown(
    shown: Page, said: Sequence[tuple[str, str]], rest: Sequence[tuple[str, str, str]], rows: Sequence[Sequence[str]]
) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_literal, cells)) + " |"

    table = [line(HEADINGS), line([":--", *["--:"] * (len(HEADINGS) - 1)]), *map(line, rows)]
    pictures = [f"![{p.caption}]({p.name}.png)" for section in shown.sections if not section.small for p in section.pictures]
    warnings = "\n".join(f"- {_literal(name)}: {_literal(sentence)}" for name, sentence in said)
    lines = "\n".join(f"- {_literal(name)}: {state}, {_literal(note)}" for name, state, note in rest)
    parts = [f"# {_literal(shown.title)}", NOTE, "\n".join(table), warnings, lines, *pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _literal(text: str) -> str:
    """Text as Markdown shows it, whatever it contains."""
    return re.sub(r"[\\`*\[\]<>|&]", lambda found: f"\\{found[0]}", " ".join(text.split()))


def _groups_csv(found: Sequence[Group]) -> str:
    columns = [f"{term}{suffix}" for term in TERMS for suffix in ("", "_se", "_mc_se", "_data_se")]
    lines: list[list[object]] = [["group", "runs", "finished", "seeds", *columns]]
    for group in found:
        summaries = [group.summary(term) or ("",) * 4 for term in TERMS]
        counts = map(len, (group.runs, group.finished, group.seeds))
        lines.append([group.name, *counts, *(cell for each in summaries for cell in each)])
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
    csv.writer(text).writerows([*map(_cell, line), *[""] * (width - len(line))] for line in lines)
    return text.getvalue()


def _cell(value: object) -> object:
    """Text that a spreadsheet would calculate gets an apostrophe; numbers stay."""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(text) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _samples(group: Group) -> Path | None:
    """The picture of the first finished run, so that all groups show the same sampling noise where they share a seed."""
    pictures = [run.folder.pictures / "samples.png" for run in group.finished if run.folder is not None]
    return next((path for path in pictures if path.exists()), None)
