"""``vdm-report lineage``: VAE, HVAE and the rungs from the free MHVAE to the VDM, side by side."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from PIL import Image

from vdm.bound import TERMS
from vdm.cli import screen
from vdm.cli.page import Page, Picture, Section, write_page
from vdm.cli.page import Table as Cells
from vdm.cli.sweep import UNREADABLE
from vdm.errors import InvalidInput, printable
from vdm.figures import ladder_figure
from vdm.training.run_folder import RunFolder, only_own_files

HOME = Path("logs/lineage")


class Run(NamedTuple):
    """A finished run of the ladder: the model's name, what metrics.json says, and its samples."""

    name: str
    test: dict[str, dict[str, float]]
    facts: dict[str, Any]
    samples: Path

    def bits(self, term: str) -> float:
        """One term of the bound, in bits/dim."""
        return self.test[term]["value"]

    @property
    def layers(self) -> dict[str, float]:
        """The terms of single layers, in bits/dim, of models that report them."""
        return {name: entry["value"] for name, entry in self.test.items() if name.startswith("layer_")}


def read_runs(sweep: Path) -> list[Run]:
    """The finished runs of a multirun, in the order of its jobs.

    Raises:
        InvalidInput: no finished run there; or runs on different data.
    """
    jobs = sorted(sweep.glob("*/metrics.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    runs = []
    for path in jobs:
        try:
            runs.append(_read_run(path))
        except InvalidInput:
            raise
        except UNREADABLE as error:
            raise InvalidInput(f"{path.parent} holds no run of vdm ({type(error).__name__}: {error}): remove it") from error
    if not runs:
        raise InvalidInput(f"{sweep} holds no finished run: name the folder of a multirun by runs=…")
    if len({json.dumps(run.facts["data"]) for run in runs}) > 1:
        raise InvalidInput(f"the runs in {sweep} are on different data and cannot be compared: sweep over models alone")
    return runs


def _read_run(path: Path) -> Run:
    only_own_files(path.parent)
    metrics, overrides = json.loads(path.read_text()), RunFolder(path.parent).told()
    chosen = [line.removeprefix("model=") for line in overrides if line.startswith("model=")]
    name = printable(chosen[-1] if chosen else path.parent.name)
    run = Run(name, metrics["test"], metrics["provenance"], path.parent / "pictures" / "samples.png")
    ladder_row(run)
    return run


def samples_of(run: Run) -> Image.Image | None:
    """None without a picture that vdm would have written."""
    try:
        return Image.open(run.samples, formats=("PNG",))
    except (OSError, ValueError, Image.DecompressionBombError):
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


HEADINGS = ("model", "total", "±", "reconstruction", "prior", "matching", "parameters", "steps", "CPU-s")
TITLE = "the ladder, bits/dim of the test set"
NOTE = "denoising matching: of the layers below the top. Error: mc_se of the total."


def ladder_row(run: Run) -> list[str]:
    """The bound by term with the first error bar, and what it took."""
    total, *terms = (f"{run.bits(name):.3f}" for name in TERMS)
    error = f"{run.test['bits_per_dim']['mc_se']:.3f}"
    spent = run.facts.get("training_cpu_seconds")
    effort = (f"{run.facts['parameters']:,}", str(run.facts["steps"]), "" if spent is None else f"{spent:.0f}")
    return [run.name, total, error, *terms, *effort]


def lineage(config: DictConfig) -> None:
    """Prints the table, draws the picture, and writes both as a page."""
    sweep = Path(config.runs) if config.runs is not None else latest()
    runs = read_runs(sweep)
    folder = RunFolder(config.output_dir)
    terms = {run.name: {name: run.bits(name) for name in TERMS[1:]} for run in runs}
    layers = {run.name: list(run.layers.values()) for run in runs if run.layers}
    samples = {run.name: image for run in runs if (image := samples_of(run)) is not None}
    picture = Picture.of("pictures/lineage", f"from {sweep}", ladder_figure(terms, layers, samples))
    rows = [ladder_row(run) for run in runs]
    page = Page("VAE, HVAE and the ladder to the VDM", "", "", [Section(TITLE, NOTE, [Cells(HEADINGS, rows)], [picture])])
    written = write_page(folder.root, page)
    folder.write_metrics({"lineage": {run.name: {"test": run.test, "provenance": run.facts} for run in runs}})
    table = screen.table(TITLE, HEADINGS, rows, NOTE)
    screen.show(table, screen.listing("from", [screen.near(sweep)]), screen.listing("written", map(screen.near, written)))
