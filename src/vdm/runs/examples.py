"""The values of single examples that an evaluation keeps beside its metrics.json: ``examples.npz``.

An npz file of arrays (numpy, no pickle), deflated; about 24 bytes a draw where the bound was computed in float32:

================  =================================================================================================
``about``         JSON: format, split, ``data`` (name, release, size, sha256 of the split), dims and levels, the
                  training seed, and ``draws``: seed and repeats of the bound, and the seed of each estimate
``index``         (n,) int64: positions in the split. (sha256, index) is an example's key, everywhere and for ever
``bits_per_dim``  and the other terms of the bound: (n, R) float64, bits/dim. Column r is replicate r, whose draws
                  are keyed by (seed, index, r), so equal keys are equal draws, wherever they were made
``gamma``         (n, R) float32: γ_t of each one-t estimate, the mean over dimensions; only of diffusion models
``estimate/NAME`` (n', R') float64: the values of a further estimate on the first n' examples
================  =================================================================================================

Any number of processes writes the same keys, γ and draws; values agree up to the network's float32 rounding.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vdm.errors import InvalidInput
from vdm.runs.files import write_atomically
from vdm.runs.reading import reading
from vdm.terms import TERMS

FORMAT = 1

LARGEST = 4 * 2**30
"""Most bytes that the arrays of a file may take in memory."""

ESTIMATE = "estimate/"


class Examples(NamedTuple):
    """The content of ``examples.npz``.

    Attributes:
        about: see the module's docstring.
        index: (n,), increasing.
        terms: (n, R) each, in bits/dim.
        gamma: (n, R), or None.
        estimates: (n', R') each, in bits/dim, of the first n' examples of the split.
    """

    about: Mapping[str, Any]
    index: np.ndarray  # type: ignore[assignment]
    terms: Mapping[str, np.ndarray]
    gamma: np.ndarray | None = None
    estimates: Mapping[str, np.ndarray] = {}


def description(
    data: Mapping[str, Any], split: str, dims: int, levels: int, seed: int, draws: Mapping[str, int]
) -> dict[str, Any]:
    """Return ``about``.

    Args:
        data: the ``data`` entry of a provenance.
        dims, levels: D, and the levels of the data; 0 for real numbers.
        seed: of training.
        draws: ``seed`` and ``repeats`` of the bound, and the seed of each estimate by name.
    """
    own = data["splits"][split]
    source = {"name": data["name"], "release": data.get("release"), "size": own["size"], "sha256": own["sha256"]}
    about = {"format": FORMAT, "split": split, "data": source, "unit": "bits/dim", "dims": dims, "levels": levels}
    return {**about, "seed": seed, "draws": dict(draws)}


def write_examples(path: Path, examples: Examples) -> None:
    """Write ``examples.npz`` atomically."""
    arrays = {"about": np.array(json.dumps(examples.about)), "index": examples.index, **examples.terms}
    if examples.gamma is not None:
        arrays["gamma"] = examples.gamma
    arrays |= {f"{ESTIMATE}{name}": values for name, values in examples.estimates.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    write_atomically(path, file.getvalue())


def read_examples(path: Path) -> Examples:
    """Return the content of a file that ``write_examples`` wrote.

    Raises:
        InvalidInput: a file that is missing, damaged, too large, or of another format.
    """
    with reading(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST:
                raise InvalidInput(f"{path} would take {size / 2**30:.0f} GiB of memory: it was not written by vdm")
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"damaged: {error}") from error
        return _checked(path, arrays)


def _checked(path: Path, arrays: dict[str, np.ndarray]) -> Examples:
    about = json.loads(str(arrays["about"]))
    if about["format"] != FORMAT:
        raise InvalidInput(f"{path} has format {about['format']}, this version of vdm reads {FORMAT}: evaluate again")
    index, gamma = arrays["index"], arrays.get("gamma")
    terms = {name: arrays[name] for name in TERMS}
    shape = (len(index), int(about["draws"]["repeats"]))
    for values in (*terms.values(), *([] if gamma is None else [gamma])):
        if values.shape != shape or values.dtype.kind != "f":
            raise ValueError(f"values of shape {values.shape} where {shape} belongs")
    if index.dtype.kind != "i" or (len(index) > 1 and (np.diff(index) <= 0).any()):
        raise ValueError("the index is not increasing")
    estimates = {name.removeprefix(ESTIMATE): y for name, y in arrays.items() if name.startswith(ESTIMATE)}
    if any(y.ndim != 2 or y.dtype.kind != "f" for y in estimates.values()):
        raise ValueError("an estimate is not a table of floating-point numbers")
    return Examples(about, index, terms, gamma, estimates)
