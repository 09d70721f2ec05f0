"""``vdm-report sweep=FOLDER``: tables and figures on a sweep, as HTML, Markdown and CSV, from the files of its runs."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.markup import escape

from vdm.errors import printable
from vdm.gamma_profile import Profile, one_t_variance
from vdm.plots.figures import profile_figure, sweep_curves, variance_figure
from vdm.reports import console
from vdm.reports.groups import Group, groups
from vdm.reports.page import Page, Picture, Section, warnings_section, write_page
from vdm.reports.table import Table, text_tables
from vdm.runs.files import write_atomically
from vdm.runs.sweeps import Run, read_sweep
from vdm.runs.tables import STANDARD_ERRORS
from vdm.terms import TERM_LABELS, TERMS

HEADINGS = ("", "runs", *(TERM_LABELS[term] for term in TERMS), "mc_se", "data_se", "one-t variance")

NOTE = (
    "Test set, averaged weights, bits/dim: mean ± standard error over the seeds of the finished runs (no error for one "
    "seed; of runs with the same seed, the first counts). "
    "± is over training seeds only; all runs share the test set and the draws, so it contains neither mc_se nor data_se. "
    f"Those are for the total, as means over the runs. {console.ERRORS_NOTE} One-t variance: of one draw of t, example and "
    "noise at the end of training, in (bits/dim)²."
)

PROFILE_NOTE = "last profile in profile.csv of the first finished run: training draws since the previous validation"


def report(sweep: Path, output: Path) -> None:
    """Write report.html and its pictures, report.md, groups.csv and runs.csv to ``output``, and print the table."""
    runs = read_sweep(sweep)
    grouped = groups(runs)
    table = Table(HEADINGS, [_row(group) for group in grouped], _heading(sweep, runs), NOTE)
    page = _page(table, grouped, runs)
    markdown = _markdown(table, page, runs)
    texts = {"report.md": markdown, "groups.csv": _groups_csv(grouped), "runs.csv": _runs_csv(runs)}
    for name, text in texts.items():
        write_atomically(output / name, text.encode())
    html, *_ = write_page(output, page)
    console.show(
        table,
        *console.warnings_listing(f"{name}: {sentence}" for name, sentence in _warnings(runs)),
        *(escape(f"{name}: {state}, {note}") for name, state, note in _without_result(runs)),
        console.listing("written", [console.short_path(path) for path in (html, *(output / name for name in texts))]),
    )


def _page(table: Table, grouped: Sequence[Group], runs: Sequence[Run]) -> Page:
    curves = sweep_curves({group.label: [run.curve for run in group.runs if run.curve[0]] for group in grouped})
    bound = Picture.of("curves", "validation bound over training, one line a run", curves)
    caption = "of the first finished run, with the same noise for runs of the same seed"
    return Page(
        table.title,
        [
            Section("Bound", table.caption, [table]),
            warnings_section(_warnings(runs)),
            Section("Without a result", tables=text_tables(_without_result(runs))),
            Section("Over training", "metrics.csv of every run", pictures=[bound]),
            Section("Noise levels", PROFILE_NOTE, pictures=_noise_levels(grouped)),
            Section("Samples", caption, pictures=_samples(grouped), small=True),
        ],
    )


def _noise_levels(grouped: Sequence[Group]) -> list[Picture]:
    last = {group.label: profile for group in grouped for profile in _profiles(group)[:1]}
    if not last:
        return []
    return [
        Picture.of("profile", "contribution to the bound by noise level", profile_figure(last, ordered=False)),
        Picture.of("variance", "variance of its one-t estimate by noise level", variance_figure(last, ordered=False)),
    ]


def _samples(grouped: Sequence[Group]) -> list[Picture]:
    """Return the samples of each group's first finished run, so that groups with a common seed share the noise."""
    pictures = []
    for i, group in enumerate(grouped):
        paths = [run.folder.pictures / "samples.png" for run in group.finished if run.folder is not None]
        path = next((path for path in paths if path.exists()), None)
        if path is not None:
            pictures.append(Picture(f"samples_{i}", group.label, path.read_bytes()))
    return pictures


def _heading(sweep: Path, runs: Sequence[Run]) -> str:
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{counts[s]} {s}" for s in ("finished", "failed", "unfinished", "missing") if counts[s])
    return f"{printable(sweep.name)}: {len(runs)} runs, {states}"


def _row(group: Group) -> list[str]:
    total, *terms = (("—",) * 3 if (summary := group.summary(term)) is None else summary.shown() for term in TERMS)
    variances, seeds = [one_t_variance(profile) for profile in _profiles(group)], len(group.one_per_seed)
    return [
        group.name,
        f"{len(group.finished)} of {len(group.runs)}" + (f", seeds: {seeds}" if seeds < len(group.finished) else ""),
        total[0],
        *(value for value, *_ in terms),
        *total[1:],
        f"{mean(variances):.3g}" if variances else "—",
    ]


def _profiles(group: Group) -> list[Profile]:
    """Return the last profile of one run of each seed."""
    return [run.profile for run in group.one_per_seed if run.profile]


def _without_result(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Return (settings, state, note) of the runs that are not finished."""
    return [(_settings_text(run), run.state, run.note) for run in runs if run.state != "finished"]


def _warnings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return (settings, sentence) of the finished runs' warnings, and of those on the whole sweep."""
    warnings = [(_settings_text(run), sentence) for run in runs for sentence in run.warnings]
    if len({run.data_id for run in runs if run.state == "finished"}) > 1:
        warnings.append(("all", "the runs are on different data: compare only runs on the same data"))
    return warnings


def _settings_text(run: Run) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(run.settings.items()))


def _markdown(table: Table, page: Page, runs: Sequence[Run]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    def bullets(rows: Sequence[Sequence[str]]) -> str:
        return "\n".join(f"- {_escape_markdown(name)}: {_escape_markdown(', '.join(rest))}" for name, *rest in rows)

    lines = [line(table.headings), line([":--", *["--:"] * (len(table.headings) - 1)]), *map(line, table.rows)]
    pictures = [f"![{p.caption}]({p.name}.png)" for section in page.sections if not section.small for p in section.pictures]
    lists = [bullets(_warnings(runs)), bullets(_without_result(runs))]
    parts = [f"# {_escape_markdown(table.title)}", table.caption, "\n".join(lines), *lists, *pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _escape_markdown(text: str) -> str:
    """Return ``text`` on one line, so that Markdown shows it as it is."""
    return re.sub(r"[\\`*\[\]<>|&]", lambda match: f"\\{match[0]}", " ".join(text.split()))


def _groups_csv(grouped: Sequence[Group]) -> str:
    columns = [f"{term}{suffix}" for term in TERMS for suffix in ("", "_se", *STANDARD_ERRORS)]
    lines: list[list[object]] = [["group", "runs", "finished", "seeds", *columns]]
    for group in grouped:
        summaries = [group.summary(term) or ("",) * 4 for term in TERMS]
        counts = map(len, (group.runs, group.finished, group.one_per_seed))
        lines.append([group.name, *counts, *(cell for each in summaries for cell in each)])
    return _csv(lines)


def _runs_csv(runs: Sequence[Run]) -> str:
    names = sorted({name for run in runs for name in run.settings})
    columns = [f"{term}{suffix}" for term in TERMS for suffix in ("", *STANDARD_ERRORS)]
    lines: list[list[object]] = [[*names, "state", "note", "folder", *columns]]
    for run in runs:
        numbers = [number for term in TERMS if term in run.test for number in run.test[term][:3]]
        folder = "" if run.folder is None else run.folder.root
        lines.append([*(run.settings.get(name, "") for name in names), run.state, run.note, folder, *numbers])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    width, text = len(lines[0]), io.StringIO(newline="")
    csv.writer(text).writerows([*map(_cell, line), *[""] * (width - len(line))] for line in lines)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet evaluates: text that looks like a formula gets an apostrophe."""
    text = str(value)
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return value
