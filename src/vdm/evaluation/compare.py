"""``vdm.compare(a, b)``: how results that were stored anywhere are paired, and their difference by term and noise level."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vdm.errors import InvalidInput
from vdm.evaluation.comparison import (
    CONFIDENCE,
    FEW,
    Difference,
    Pairing,
    Values,
    band_edges,
    by_band,
    difference,
    difference_of_means,
    seed_parts,
)
from vdm.runs.examples import Examples
from vdm.runs.results import StoredResult, read_result
from vdm.terms import TERMS

BANDS = 10
"""Bands of γ in a comparison by noise level."""

CLOSE = 0.1
"""Mean distance of the γ of paired draws up to which they count as equal; learned ends move them a little."""

Place = str | Path | StoredResult

PAIRED_BY = {
    "draws": "paired by example and by draw",
    "examples": "paired by example; the draws differ",
    "none": "not paired",
}


class Band(NamedTuple):
    """The difference of the denoising terms between two noise levels γ."""

    low: float
    high: float
    difference: Difference


class Comparison(NamedTuple):
    """A − B in bits/dim, negative where A is better.

    Attributes:
        a, b: the names of the two sides.
        difference: by term.
        unpaired: the total again, as if A and B shared nothing: what pairing is worth.
        bands: by noise level; empty if a model has none.
        estimates: of further estimates that both sides have, by name.
        pairing: ``draws``, ``examples`` or ``none``.
        seeds: training seeds of A and of B.
        examples: number of examples, or of the smaller side's if they are not paired.
        notes: sentences that a reader of the numbers must know.
    """

    a: str
    b: str
    difference: Mapping[str, Difference]
    unpaired: Difference
    bands: Sequence[Band]
    estimates: Mapping[str, Difference]
    pairing: Pairing
    seeds: tuple[int, int]
    examples: int | None
    notes: Sequence[str]

    @property
    def paired(self) -> bool:
        return self.pairing != "none"

    @property
    def total(self) -> Difference:
        return self.difference["bits_per_dim"]

    def entry(self) -> dict[str, Any]:
        """Return the comparison as in compare.json."""
        return {
            "a": self.a,
            "b": self.b,
            "unit": "bits/dim",
            "confidence": CONFIDENCE,
            "difference": {name: each.entry() for name, each in self.difference.items()},
            "paired": self.paired,
            "pairing": self.pairing,
            "unpaired": {"bits_per_dim": self.unpaired.entry()},
            "seeds": list(self.seeds),
            "contains_seeds": [count > 1 for count in self.seeds],
            "examples": self.examples,
            "bands": [{"gamma_low": b.low, "gamma_high": b.high, **b.difference.entry()} for b in self.bands],
            "estimates": {name: each.entry() for name, each in self.estimates.items()},
            "notes": list(self.notes),
        }


def compare(a: Place | Sequence[Place], b: Place | Sequence[Place], bands: int = BANDS) -> Comparison:
    """Return the difference A − B of two results, with intervals.

    Args:
        a, b: a folder of a run or of an evaluation, an ``examples.npz``, or a list of them that differ in their seed.
        bands: number of bands of γ.

    Raises:
        InvalidInput: other data, another split or other units; see also ``read_result``.
    """
    sides = [_side(each) for each in (a, b)]
    _check_comparable([result for side in sides for result in side])
    names = tuple(side[0].name for side in sides)
    return compare_results(sides[0], sides[1], (names[0], names[1]), bands)


def compare_results(
    a: Sequence[StoredResult], b: Sequence[StoredResult], names: tuple[str, str], bands: int = BANDS
) -> Comparison:
    """Compare two groups of results that differ in their seed only; see ``compare``."""
    _check_comparable([*a, *b])
    (a, b), notes = (one_per_seed(a), one_per_seed(b)), []
    seeds = (len(a), len(b))
    notes += [f"not over seeds of {name}: it has one" for name, count in zip(names, seeds, strict=True) if count == 1]
    for side in (a, b):
        if len({result.sha256 for result in side}) > 1:
            raise InvalidInput(f"{side[0].name} and {side[1].name} are seeds of one model on other examples: no mean")
    flips = {result.flipped for result in (*a, *b)}
    notes += ["one side was trained on mirrored images as well"] if len(flips) > 1 else []
    missing = [result.name for result in (*a, *b) if result.examples is None]
    if missing:
        notes.append(f"not paired: no values of single examples in {', '.join(missing)}; vdm-evaluate writes them")
        return _from_metrics(a, b, names, notes)
    pair = _Pair([r.examples for r in a if r.examples], [r.examples for r in b if r.examples])
    differences = {term: difference(*pair.arrays(_term(term)), pair.pairing) for term in TERMS}
    if pair.at_other_gamma:
        notes.append(EVEN)
    return Comparison(
        *names,
        differences,
        difference(*pair.arrays(_term("bits_per_dim")), "none"),
        _bands(pair, bands),
        _estimates(pair),
        pair.pairing,
        seeds,
        pair.n,
        [*notes, *pair.notes],
    )


def one_per_seed(results: Sequence[StoredResult]) -> list[StoredResult]:
    """Return the first result of each seed; repeated seeds are not independent."""
    first: dict[str, StoredResult] = {}
    for result in results:
        first.setdefault(result.seed, result)
    return list(first.values())


EVEN = "the draws are at other γ on either side: evaluate both with even_gamma=true for a narrower interval"


class _Pair:
    """The examples and draws that two groups of results share, and their values there.

    Attributes:
        pairing: what they share.
        n: number of common examples; of the smaller side's if there are none.
        notes: sentences on what is not shared.
    """

    def __init__(self, a: Sequence[Examples], b: Sequence[Examples]) -> None:
        self.sides, self.notes = (a, b), list[str]()
        own = [_common_index(side) for side in self.sides]
        same_data = len({each.about["data"]["sha256"] for each in (*a, *b)}) == 1
        index = np.intersect1d(own[0], own[1])
        if not same_data or len(index) < 2:
            self.notes.append("not paired: the examples are others of the same source" if not same_data else "not paired")
            self.pairing: Pairing = "none"
            self.index, self.n = own, min(map(len, own))
        else:
            if len(index) < max(map(len, own)):
                self.notes.append(f"on the {len(index)} examples that both sides have")
            self.index, self.n, self.pairing = [index, index], len(index), "examples"
        draws = [{(e.about["draws"]["seed"], e.about["draws"]["repeats"]) for e in side} for side in self.sides]
        keys, counts = ({value[i] for value in draws[0] | draws[1]} for i in (0, 1))
        self.repeats = None if len(keys) > 1 else min(counts)
        if self.pairing == "none":
            self.repeats = None
        elif self.repeats is None or (len(counts) > 1 and self.repeats < FEW):
            self.notes.append("paired by example only: the draws have other seeds or too few replicates in common")
            self.repeats = None
        else:
            self.pairing = "draws"
            if len(counts) > 1:
                self.notes.append(f"on the first {self.repeats} replicates, which both sides have")

    @property
    def at_other_gamma(self) -> bool:
        """Whether paired draws of the two sides differ in γ, as those of two schedules do."""
        if self.pairing != "draws" or any(each.gamma is None for side in self.sides for each in side):
            return False
        a, b = self.arrays(_gamma)
        return bool(np.abs(a.mean(0) - b.mean(0)).mean() > CLOSE)

    def arrays(self, values: Callable[[Examples], np.ndarray]) -> tuple[Values, Values]:
        """Return the values (S, n, R) of both sides at the common examples and replicates."""
        both = []
        for side, index in zip(self.sides, self.index, strict=True):
            rows = [values(each)[np.searchsorted(each.index, index), : self.repeats] for each in side]
            if len({(e.about["draws"]["seed"], y.shape) for e, y in zip(side, rows, strict=True)}) > 1:
                rows = [y.mean(1, keepdims=True) for y in rows]  # seeds with other draws each
            both.append(np.stack(rows))
        return both[0], both[1]


def _common_index(side: Sequence[Examples]) -> np.ndarray:
    index = side[0].index
    for each in side[1:]:
        index = np.intersect1d(index, each.index)
    return index


def _bands(pair: _Pair, bands: int) -> list[Band]:
    """Return the difference of the denoising term by band of γ; empty unless all draws have a γ."""
    every = [each for side in pair.sides for each in side]
    if any(each.gamma is None for each in every):
        return []
    gammas = pair.arrays(_gamma)
    matching = pair.arrays(_term("denoising_matching"))
    if gammas[0].shape[2] == 1 < min(each.about["draws"]["repeats"] for each in every):
        return []  # seeds with other draws: the mean γ of an example's draws says nothing
    edges = band_edges(gammas, bands)
    parts = [by_band(m, g, edges) for m, g in zip(matching, gammas, strict=True)]
    return [
        Band(float(edges[k]), float(edges[k + 1]), difference(parts[0][k], parts[1][k], pair.pairing)) for k in range(bands)
    ]


def _term(name: str) -> Callable[[Examples], np.ndarray]:
    return lambda examples: examples.terms[name]


def _gamma(examples: Examples) -> np.ndarray:
    assert examples.gamma is not None
    return examples.gamma.astype(np.float64)


def _estimates(pair: _Pair) -> dict[str, Difference]:
    """Return the differences of further estimates that every result has on the same examples."""
    first, *rest = every = [each for side in pair.sides for each in side]
    if pair.pairing == "none":
        return {}
    found = {}
    for name, values in first.estimates.items():
        if all(name in each.estimates and each.estimates[name].shape == values.shape for each in rest):
            same = len({each.about["draws"].get(name) for each in every}) == 1
            a, b = (np.stack([each.estimates[name] for each in side]) for side in pair.sides)
            found[name] = difference(a, b, "draws" if same else "examples")
    return found


def _from_metrics(
    a: Sequence[StoredResult], b: Sequence[StoredResult], names: tuple[str, str], notes: Sequence[str]
) -> Comparison:
    """Compare by the means and data_se of metrics.json alone, as independent results."""
    found = {}
    for term in TERMS:
        estimates = [np.array([_estimate(result, term) for result in side]) for side in (a, b)]
        (mean_a, error_a), (mean_b, error_b) = (map(float, each.mean(0)) for each in estimates)
        parts = [part for each in estimates for part in seed_parts(each[:, :1, None])]
        found[term] = difference_of_means(mean_a - mean_b, (error_a, error_b), parts)
    seeds, sizes = (len(a), len(b)), [size for r in (*a, *b) if isinstance(size := r.data.get("size"), int)]
    n = min(sizes, default=None)
    return Comparison(*names, found, found["bits_per_dim"], [], {}, "none", seeds, n, notes)


def _estimate(result: StoredResult, term: str) -> tuple[float, float]:
    """Return a term and its data_se."""
    if term in result.terms:
        return result.terms[term].value, result.terms[term].data_se
    assert result.examples is not None
    values = result.examples.terms[term].mean(1)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def _side(given: Place | Sequence[Place]) -> list[StoredResult]:
    places = [given] if isinstance(given, str | Path | StoredResult) else list(given)
    if not places:
        raise InvalidInput("a side of a comparison is empty: name at least one result")
    return [place if isinstance(place, StoredResult) else read_result(place) for place in places]


def _check_comparable(results: Sequence[StoredResult]) -> None:
    """Raise InvalidInput for results on other data, another split, or in other units."""
    first, *rest = results
    for other in rest:
        if other.source != first.source:
            raise InvalidInput(
                f"{first.name} is on {_words(first)} and {other.name} on {_words(other)}: no difference between them means "
                "anything"
            )
        if first.units and other.units and first.units != other.units:
            raise InvalidInput(
                f"{first.name} and {other.name} are in other units (dimensions, levels): {first.units}, {other.units}"
            )


def _words(result: StoredResult) -> str:
    name, release, split = result.source
    return f"{split} of {name} ({release})"
