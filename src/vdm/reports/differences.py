"""Tables, notes and figures of differences to a reference, for every report that compares results."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean

from vdm.errors import printable
from vdm.estimate import decimals
from vdm.evaluation.compare import PAIRED_BY, Comparison
from vdm.evaluation.comparison import Difference
from vdm.evaluation.families import Family, compare_to
from vdm.plots.comparison import bands_figure, intervals_figure
from vdm.reports.page import Picture, Section
from vdm.reports.table import Table
from vdm.runs.results import read_result
from vdm.runs.sweeps import Run
from vdm.terms import TERM_LABELS

BEST = "best"
"""The reference that is chosen by its result."""

MOST_BANDS = 4
"""Most comparisons in one figure by noise level."""


def of_runs(groups: Mapping[str, Sequence[Run]], reference: str | None) -> Family | None:
    """Compare groups of finished runs with ``reference``, by default the best; None for fewer than two groups.

    Raises:
        InvalidInput: no group of that name, or one whose files are malformed.
    """
    folders = {name: [run.folder.root for run in runs if run.folder is not None] for name, runs in groups.items()}
    reads = {name: lambda roots=roots: [read_result(root) for root in roots] for name, roots in folders.items() if roots}
    if len(reads) < 2 and reference is None:
        return None

    def total(name: str) -> float:
        value = mean(run.test["bits_per_dim"].value for run in groups[name])
        return math.inf if math.isnan(value) else value

    chosen = min(reads, key=total) if reference in (None, BEST) else str(reference)
    return compare_to(chosen, reads, best=reference in (None, BEST))


def differences_table(family: Family) -> Table:
    """Return a row a comparison: the difference of the totals, its intervals, and the corrected p-value.

    What differs between rows beside them, pairing and seeds, has a column; otherwise the notes say it.
    """
    several = family.corrected_for > 1
    more = {name: cells for name, cells in _more(family).items() if len(set(cells)) > 1}
    headings = ["", "bits/dim", "95 % interval", *(["simultaneous"] if several else []), "p", *more]
    rows = []
    for number, (comparison, p) in enumerate(zip(family.comparisons, family.adjusted, strict=True)):
        total = comparison.total
        intervals = [total.interval(), *([total.interval(family.confidence)] if several else [])]
        shown = [interval_text(total, interval) for interval in intervals]
        value = f"{total.value:+.{decimals(total.se)}f}"
        rows.append([comparison.a, value, *shown, _p(p), *(cells[number] for cells in more.values())])
    return Table(headings, rows, f"difference to {family.reference}", " ".join(notes(family)))


def _more(family: Family) -> dict[str, list[str]]:
    return {
        "paired by": [comparison.pairing for comparison in family.comparisons],
        "seeds": [" and ".join(map(str, comparison.seeds)) for comparison in family.comparisons],
    }


def notes(family: Family) -> list[str]:
    """Return how to read the table: what the intervals contain, what is corrected, and what is not paired."""
    lines = [f"Each result minus {family.reference}, in bits/dim: negative is better."]
    if any(count > 1 for comparison in family.comparisons for count in comparison.seeds):
        seeds = dict.fromkeys(_more(family)["seeds"])
        lines.append(
            f"Intervals are over examples and draws, and over the training seeds of a side with several (seeds: "
            f"{', '.join(seeds)})."
        )
    else:
        lines.append("Intervals are over examples and draws. They do not contain training seeds: there is one a side.")
    number = family.corrected_for
    if number > 1:
        why = ": all pairs, since the reference was chosen by its result" if number > len(family.comparisons) else ""
        lines.append(f"Simultaneous intervals hold together with 95 % (Bonferroni, {number} comparisons{why}).")
        lines.append("p is Holm's, for as many.")
    pairings = dict.fromkeys(comparison.pairing for comparison in family.comparisons)
    lines += [f"Paired by {pairing}: {PAIRED_BY[pairing]}." for pairing in pairings]
    found = dict.fromkeys((c.a, note) for c in family.comparisons for note in c.notes if not note.startswith("not over"))
    lines += [f"{name}: {printable(note)}." for name, note in found]
    return lines + [f"{name} is not compared: {printable(reason)}." for name, reason in family.refused.items()]


def differences_section(family: Family, title: str = "Differences") -> Section:
    """Return the table with its notes and a figure; empty without a comparison."""
    if not family.comparisons:
        return Section(title, " ".join(notes(family)))
    table = differences_table(family)
    intervals = {c.a: (c.total.value, *c.total.interval(family.confidence)) for c in family.comparisons}
    figure = intervals_figure(intervals, f"difference to {family.reference}", "bits/dim", zero=True)
    return Section(title, table.caption, [table], [Picture.of("differences", "simultaneous 95 % intervals", figure)])


def terms_table(comparison: Comparison) -> Table:
    """Return the difference by term, and of further estimates, with intervals."""
    labelled = {TERM_LABELS[name]: each for name, each in comparison.difference.items()}
    rows = [_row(name, each) for name, each in (labelled | dict(comparison.estimates)).items()]
    unpaired = [_row("total, if not paired", comparison.unpaired)] if comparison.paired else []
    headings = ("term", "bits/dim", "se", "95 % interval", "df")
    return Table(headings, [*rows, *unpaired], f"{comparison.a} − {comparison.b}", "", bold_first=True)


def bands_picture(comparisons: Sequence[Comparison]) -> Picture | None:
    """Return the differences by noise level of the first comparisons; None if no model has noise levels."""
    rows: Mapping[str, list] = {
        f"{c.a} − {c.b}": [(b.low, b.high, (b.difference.value, *b.difference.interval())) for b in c.bands]
        for c in comparisons[:MOST_BANDS]
        if c.bands
    }
    if not rows:
        return None
    figure = bands_figure(rows, "difference of the denoising terms by noise level")
    return Picture.of("bands", "each with its own 95 % interval; the sum over bands is the term's difference", figure)


def interval_text(difference: Difference, interval: tuple[float, float]) -> str:
    """Return the ends with the decimals of the error."""
    places = decimals(difference.se)
    low, high = (f"{end:+.{places}f}" for end in interval)
    return f"{low}, {high}"


def _row(name: str, each: Difference) -> list[str]:
    places = decimals(each.se)
    df = f"{each.df:.0f}" if each.df < 1e6 else "∞"
    return [name, f"{each.value:+.{places}f}", f"{each.se:.{places}f}", interval_text(each, each.interval()), df]


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
