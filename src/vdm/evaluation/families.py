"""Several results compared with one reference, with intervals and p-values corrected for their number."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vdm.errors import InvalidInput, did_you_mean
from vdm.evaluation.compare import Comparison, compare_results
from vdm.evaluation.comparison import holm, simultaneous
from vdm.runs.results import StoredResult

Read = Callable[[], Sequence[StoredResult]]
"""Reads the results of one group when they are needed, since their values may be large."""


class Family(NamedTuple):
    """Comparisons with one reference, the best first.

    Attributes:
        reference: name of the reference.
        comparisons: each group minus the reference.
        corrected_for: how many comparisons the correction is for: all pairs if the reference was chosen for its result.
        refused: groups that cannot be compared, and why.
    """

    reference: str
    comparisons: Sequence[Comparison]
    corrected_for: int
    refused: Mapping[str, str] = {}

    @property
    def confidence(self) -> float:
        """The confidence of each simultaneous interval."""
        return simultaneous(self.corrected_for)

    @property
    def adjusted(self) -> list[float]:
        """The p-values of no difference of the totals, by Holm."""
        return holm([comparison.total.p for comparison in self.comparisons], self.corrected_for)

    def entry(self) -> dict[str, Any]:
        """Return the content of compare.json; a single comparison stands at the top as well."""
        entries = []
        for comparison, p in zip(self.comparisons, self.adjusted, strict=True):
            low, high = comparison.total.interval(self.confidence)
            corrected = {"low": low, "high": high, "confidence": self.confidence, "p_holm": p}
            entries.append({**comparison.entry(), "p": comparison.total.p, "simultaneous": corrected})
        top = entries[0] if len(entries) == 1 else {}
        about = {"reference": self.reference, "corrected_for": self.corrected_for, "refused": dict(self.refused)}
        return {**top, **about, "comparisons": entries}


def compare_to(reference: str, groups: Mapping[str, Read], best: bool = False) -> Family:
    """Compare each group with the group called ``reference``.

    Args:
        groups: by name.
        best: whether the reference was chosen because its result is the best.

    Raises:
        InvalidInput: no group of that name; a reference that cannot be read.
    """
    if reference not in groups:
        raise InvalidInput(f"there is no {reference!r} to compare with{did_you_mean(reference, groups, _listed(groups))}")
    base, found, refused = groups[reference](), [], {}
    for name, read in groups.items():
        if name != reference:
            try:
                found.append(compare_results(read(), base, (name, reference)))
            except InvalidInput as error:
                refused[name] = str(error)
    found.sort(key=lambda comparison: comparison.total.value)
    number = len(groups)
    return Family(reference, found, number * (number - 1) // 2 if best else number - 1, refused)


def _listed(names: Mapping[str, Read]) -> str:
    return f"there are {', '.join(names)}"
