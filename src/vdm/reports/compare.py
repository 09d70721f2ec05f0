"""``vdm-report compare runs=[A,B,…]``: is A better than B, by how much, and at which noise levels."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from vdm.errors import InvalidInput
from vdm.evaluation.families import Family, compare_to
from vdm.reports import console
from vdm.reports.differences import BEST, bands_picture, differences_section, differences_table, notes, terms_table
from vdm.reports.groups import differing, settings_label
from vdm.reports.page import Page, Section, write_page
from vdm.reports.table import text_tables
from vdm.runs.files import write_json
from vdm.runs.results import StoredResult, read_result


def report(runs: str, output: Path, reference: str | None = None) -> None:
    """Write compare.json, and report.html with its pictures, to ``output``, and print the tables.

    Args:
        runs: a list of folders, ``[A, B]``, or of lists of folders that differ in their seed, ``[[A1, A2], [B1, B2]]``.
        reference: the name of a group, or ``best``; the last by default.

    Raises:
        InvalidInput: fewer than two groups; results that cannot be compared.
    """
    groups = _named(_grouped(parse(runs)))
    family = _family(groups, reference)
    if not family.comparisons:
        raise InvalidInput(next(iter(family.refused.values())))
    write_json(output / "compare.json", family.entry())
    page, *_ = write_page(output, page_of(family))
    tables = [terms_table(comparison) for comparison in family.comparisons]
    head = [differences_table(family)] if len(tables) > 1 else [tables.pop(), *notes(family)]
    console.show(*head, console.listing("written", [console.short_path(path) for path in (output / "compare.json", page)]))


def page_of(family: Family) -> Page:
    """Return the page on a family of comparisons."""
    picture = bands_picture(family.comparisons)
    by_term = "intervals of 95 % each, not corrected for the number of terms"
    unpaired = "the last line shows what pairing is worth" if any(c.paired for c in family.comparisons) else ""
    return Page(
        f"differences to {family.reference}",
        [
            differences_section(family, "Difference of the totals"),
            Section("By term", "; ".join(filter(None, (by_term, unpaired))), [terms_table(c) for c in family.comparisons]),
            Section("By noise level", "examples.npz", pictures=[] if picture is None else [picture]),
            Section("Notes", tables=text_tables([[line] for line in notes(family)])),
        ],
    )


def parse(runs: str) -> list[str | list[str]]:
    """Parse ``[A, B]`` or ``[[A1, A2], B]``.

    Raises:
        InvalidInput: anything else.
    """
    try:
        parsed = yaml.safe_load(runs)
    except yaml.YAMLError:
        parsed = None
    if not isinstance(parsed, list) or not all(_is_entry(entry) for entry in parsed):
        raise InvalidInput(f"runs={runs} is not a list of folders: write runs=[A,B], with quotes around it in a shell")
    return parsed


def _is_entry(entry: object) -> bool:
    parts = entry if isinstance(entry, list) else [entry]
    return bool(parts) and all(isinstance(part, str) for part in parts)


def _grouped(places: Sequence[str | list[str]]) -> list[list[StoredResult]]:
    """Read the results; training runs in a flat list that differ in their seed only form one group."""
    results = [[read_result(part) for part in (place if isinstance(place, list) else [place])] for place in places]
    if any(isinstance(place, list) for place in places):
        return results
    groups: dict[object, list[StoredResult]] = {}
    for (result,) in results:
        settings = {k: v for k, v in (result.settings or {}).items() if k != "seed"}
        alone = result.settings is None
        key: object = id(result) if alone else (tuple(sorted(settings.items())), result.version, result.flipped)
        groups.setdefault(key, []).append(result)
    distinct = all(len({result.seed for result in group}) == len(group) for group in groups.values())
    return list(groups.values()) if len(groups) > 1 and distinct else results


def _named(groups: Sequence[Sequence[StoredResult]]) -> dict[str, Sequence[StoredResult]]:
    """Name groups by the settings in which they differ, or by their folders."""
    if len(groups) < 2:
        raise InvalidInput(f"a comparison needs at least two results, got {len(groups)}: runs=[A,B,…]")
    settings = [dict(group[0].settings or {}) for group in groups]
    labels = [settings_label(each, differing(settings)) for each in settings]
    if len({*labels}) < len(groups) or not all(labels):
        labels = [group[0].name for group in groups]
    if len({*labels}) < len(groups):
        labels = [f"{number}: {label}" for number, label in enumerate(labels, start=1)]
    return dict(zip(labels, groups, strict=True))


def _family(groups: dict[str, Sequence[StoredResult]], reference: str | None) -> Family:
    def mean(name: str) -> float:
        found = [_total(result) for result in groups[name]]
        return sum(found) / len(found)

    chosen = min(groups, key=mean) if reference == BEST else list(groups)[-1] if reference is None else reference
    return compare_to(chosen, {name: partial(list, each) for name, each in groups.items()}, reference == BEST)


def _total(result: StoredResult) -> float:
    if result.terms:
        return result.terms["bits_per_dim"].value
    assert result.examples is not None
    return float(result.examples.terms["bits_per_dim"].mean())
