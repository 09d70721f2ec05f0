"""One evaluation of one trained model, as the files in its folder describe it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.runs.examples import Examples, read_examples
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.provenance import fingerprints
from vdm.runs.reading import check_contained, reading
from vdm.terms import TERMS

REMEDY = "name the folder of a finished run, of a vdm-evaluate, or a file examples.npz"


class StoredResult(NamedTuple):
    """A result to compare with others; texts are safe to print.

    Attributes:
        name: the folder's name.
        terms: estimates in bits/dim, from metrics.json; empty for a lone examples.npz.
        data: name, release, split, and size and sha256 of the split.
        units: D and the levels of the data; None if unknown.
        seed: of training.
        flipped: whether mirrored images were trained on, too.
        version: of the package.
        settings: the overrides of a training run; None for another evaluation.
        examples: the values of single examples; None for results of earlier versions.
    """

    name: str
    terms: Mapping[str, Estimate]
    data: Mapping[str, Any]
    units: tuple[int, int] | None = None
    seed: str = ""
    flipped: bool = False
    version: str = ""
    settings: Mapping[str, str] | None = None
    examples: Examples | None = None

    @property
    def source(self) -> tuple[str, str, str]:
        """Name and release of the data, and the split."""
        return str(self.data.get("name")), str(self.data.get("release")), str(self.data.get("split"))

    @property
    def sha256(self) -> str | None:
        return self.data.get("sha256")


def read_result(place: str | Path) -> StoredResult:
    """Return the result in a folder with metrics.json and examples.npz, or with one of them, or in an examples.npz.

    Raises:
        InvalidInput: neither file; a malformed one; files of two different evaluations; a link out of the folder.
    """
    place = Path(place)
    if place.is_file():
        return _lone(printable(place.parent.name), read_examples(place))
    check_contained(place)
    folder, name = RunFolder(place), printable(place.resolve().name)
    examples = read_examples(folder.examples) if folder.examples.exists() else None
    if folder.metrics.exists():
        with reading(folder.metrics):
            return _described(name, folder, json.loads(folder.metrics.read_text()), examples)
    if examples is None:
        raise InvalidInput(f"{place} holds no result, neither metrics.json nor examples.npz: {REMEDY}")
    return _lone(name, examples)


def _lone(name: str, examples: Examples) -> StoredResult:
    about = examples.about
    data = {**about["data"], "split": about["split"]}
    units = (int(about["dims"]), int(about["levels"]))
    return StoredResult(name, {}, data, units, str(about["seed"]), examples=examples)


def _described(name: str, folder: RunFolder, metrics: Mapping[str, Any], examples: Examples | None) -> StoredResult:
    facts = metrics.get("provenance", {})
    split, data = str(facts.get("split", "test")), facts.get("data", {})
    terms = {term: read_estimate(metrics[split][term]) for term in TERMS}
    source = {"name": data.get("name"), "release": data.get("release"), "split": split}
    source |= {"size": data.get("splits", {}).get(split, {}).get("size"), "sha256": fingerprints(data).get(split)}
    result = StoredResult(
        name,
        terms,
        source,
        seed=printable(str(facts.get("seed", ""))),
        flipped=bool(data.get("flip")),
        version=str(facts.get("vdm", "")),
        settings=_settings(folder) if folder.id.exists() else None,
    )
    if examples is None:
        return result
    mean = float(examples.terms["bits_per_dim"].mean())
    same = math.isclose(mean, terms["bits_per_dim"].value, rel_tol=1e-6, abs_tol=1e-6) or math.isnan(mean)
    if not same or examples.about["data"]["sha256"] != source["sha256"]:
        raise InvalidInput(f"{folder.examples} and {folder.metrics.name} are of two evaluations: evaluate again")
    return result._replace(units=(int(examples.about["dims"]), int(examples.about["levels"])), examples=examples)


def _settings(folder: RunFolder) -> dict[str, str]:
    pairs = (printable(line).partition("=") for line in folder.recorded_overrides())
    return {name: value for name, _, value in pairs if name not in ("resume", "sweep")}
