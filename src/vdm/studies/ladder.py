"""``vdm-report lineage``: VAE, HVAE and the rungs from the free MHVAE to the VDM, side by side."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from PIL import Image

from vdm.data.image_files import PIXELS
from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.plots.figures import ladder_figure
from vdm.reports import console
from vdm.reports.groups import differing, in_words
from vdm.reports.page import Page, Picture, Section, warnings_section, write_page
from vdm.reports.page import Table as Cells
from vdm.runs.files import only_own_files
from vdm.runs.folder import RunFolder, as_metrics, read_estimate
from vdm.runs.sweeps import Settings, as_invalid_input, data_of, settings_of, trained_with_flips, warnings_of, with_flips
from vdm.terms import TERMS

HOME = Path("logs/lineage")

SHOWN = 1024
"""Pixels a side of a picture in the figure, which gives it fewer."""


class Run(NamedTuple):
    """A finished run of the ladder: the model's name and what else tells it from the others, what metrics.json says, and
    its samples."""

    name: str
    settings: Settings
    test: dict[str, Estimate]
    facts: dict[str, Any]
    samples: Path
    warnings: list[str]

    @property
    def flipped(self) -> bool:
        """Whether it was trained on mirrored images as well."""
        return trained_with_flips(self.facts)

    @property
    def layers(self) -> dict[str, float]:
        """The terms of single layers, in bits/dim, of models that report them."""
        return {name: found.value for name, found in self.test.items() if name.startswith("layer_")}


def read_runs(sweep: Path) -> list[Run]:
    """The finished runs of a multirun, in the order of its jobs.

    Raises:
        InvalidInput: no finished run there; runs on different data, or of the same settings; a link out of the folder.
    """
    only_own_files(sweep)
    jobs = sorted(sweep.glob("*/metrics.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    runs = []
    for path in jobs:
        with as_invalid_input(path.parent):
            runs.append(_read_run(path))
    if not runs:
        raise InvalidInput(f"{sweep} holds no finished run: name the folder of a multirun by runs=…")
    runs = _told_apart(runs)
    names = [run.name for run in runs]
    for name in (name for name in names if names.count(name) > 1):
        raise InvalidInput(f"{sweep} holds several finished runs of {name}, with the same settings: move all but one away")
    if len({data_of(run.facts) for run in runs}) > 1:
        raise InvalidInput(f"the runs in {sweep} are on different data and cannot be compared: sweep over models alone")
    return runs


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Named by the model, and by those settings that not all runs share."""
    names = [name for name in differing([run.settings for run in runs], aside="model") if name != "rung"]
    return [run._replace(name=", ".join(filter(None, (run.name, in_words(run.settings, names))))) for run in runs]


def _read_run(path: Path) -> Run:
    only_own_files(path.parent)
    metrics, settings = json.loads(path.read_text()), settings_of(RunFolder(path.parent).told())
    test = {
        term: read_estimate(entry) for term, entry in metrics["test"].items() if term in TERMS or term.startswith("layer_")
    }
    samples = path.parent / "pictures" / "samples.png"
    name = settings.get("rung", settings.get("model", printable(path.parent.name)))
    run = Run(name, settings, test, metrics["provenance"], samples, warnings_of(metrics))
    ladder_row(run)
    return run


def samples_of(run: Run) -> Image.Image | None:
    """At most ``SHOWN`` pixels a side; None without a picture that vdm would have written."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(run.samples, formats=("PNG",)) as image:
            if image.width * image.height > PIXELS:  # PIL would only warn of it
                return None
            image.thumbnail((SHOWN, SHOWN))
            return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except Exception:  # a broken file may raise anything
        return None


def latest() -> Path:
    """The newest multirun of experiment=lineage.

    Raises:
        InvalidInput: none.
    """
    folders = sorted(path for path in HOME.glob("*") if path.is_dir())
    if not folders:
        raise InvalidInput(f"no multirun in {HOME}: run vdm-train experiment=lineage first, or name one by runs=…")
    return folders[-1]


HEADINGS = ("model", "total", "mc_se", "data_se", "reconstruction", "prior", "matching", "parameters", "steps", "CPU-s")

TITLE = "the ladder, bits/dim of the test set"

NOTE = f"Matching: denoising matching, of the layers below the top. {console.ERRORS} Both are the total's."


def ladder_row(run: Run) -> list[str]:
    """The bound by term with the total's error bars, and what it took."""
    total, *terms = (run.test[name].shown() for name in TERMS)
    spent = run.facts.get("training_cpu_seconds")
    effort = (f"{run.facts['parameters']:,}", str(run.facts["steps"]), "" if spent is None else f"{spent:.0f}")
    return [with_flips(run.name, run.flipped), *total, *(value for value, *_ in terms), *effort]


def lineage(config: DictConfig) -> None:
    """Prints the table, draws the picture, and writes both as a page."""
    sweep = Path(config.runs) if config.runs is not None else latest()
    runs = read_runs(sweep)
    folder = RunFolder(config.output_dir)
    terms = {run.name: {name: run.test[name].value for name in TERMS[1:]} for run in runs}
    layers = {run.name: list(run.layers.values()) for run in runs if run.layers}
    samples = {run.name: image for run in runs if (image := samples_of(run)) is not None}
    picture = Picture.of("pictures/lineage", f"from {sweep}", ladder_figure(terms, layers, samples))
    rows = [ladder_row(run) for run in runs]
    said = [(run.name, sentence) for run in runs for sentence in run.warnings]
    ladder = Section(TITLE, NOTE, [Cells(HEADINGS, rows)], [picture])
    page = Page("VAE, HVAE and the ladder to the VDM", "", "", [ladder, warnings_section(said)])
    written = write_page(folder.root, page)
    folder.write_metrics({"lineage": {run.name: {"test": as_metrics(run.test), "provenance": run.facts} for run in runs}})
    console.show(
        console.Table(TITLE, HEADINGS, rows, NOTE),
        *console.warned(f"{name}: {sentence}" for name, sentence in said),
        console.listing("from", [console.near(sweep)]),
        console.listing("written", map(console.near, written)),
    )
