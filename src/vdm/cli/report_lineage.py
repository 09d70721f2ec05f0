"""``vdm-report lineage``: VAE, HVAE and the rungs from the free MHVAE to the VDM, side by side."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from PIL import Image
from rich.table import Table

from vdm.bound import TERMS
from vdm.cli import screen
from vdm.errors import InvalidInput
from vdm.figures import ladder_figure
from vdm.training.run_folder import RunFolder, read_yaml

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
        metrics, overrides = json.loads(path.read_text()), read_yaml(path.parent / ".hydra" / "overrides.yaml")
        chosen = [str(o).removeprefix("model=") for o in overrides if str(o).startswith("model=")]
        name = chosen[-1] if chosen else path.parent.name
        runs.append(Run(name, metrics["test"], metrics["provenance"], path.parent / "pictures" / "samples.png"))
    if not runs:
        raise InvalidInput(f"{sweep} holds no finished run: name the folder of a multirun by runs=…")
    if len({json.dumps(run.facts["data"]) for run in runs}) > 1:
        raise InvalidInput(f"the runs in {sweep} are on different data and cannot be compared: sweep over models alone")
    return runs


def latest() -> Path:
    """The newest multirun of experiment=lineage.

    Raises:
        InvalidInput: none.
    """
    folders = sorted(path for path in HOME.glob("*") if path.is_dir())
    if not folders:
        raise InvalidInput(f"no multirun in {HOME}: run vdm-train experiment=lineage first, or name one by runs=…")
    return folders[-1]


def ladder_table(runs: list[Run]) -> Table:
    """One line a model: the bound by term with the first error bar, and what it took."""
    table = Table(title="the ladder, bits/dim of the test set", title_justify="left", caption_justify="left")
    table.caption = "denoising matching: of the layers below the top. Error: mc_se of the total."
    for heading in ("model", "total", "±", "reconstruction", "prior", "matching", "parameters", "steps", "CPU-s"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for run in runs:
        total, *terms = (f"{run.bits(name):.3f}" for name in TERMS)
        error = f"{run.test['bits_per_dim']['mc_se']:.3f}"
        effort = (f"{run.facts['parameters']:,}", str(run.facts["steps"]), f"{run.facts['training_cpu_seconds']:.0f}")
        table.add_row(run.name, total, error, *terms, *effort)
    return table


def lineage(config: DictConfig) -> None:
    """Prints the table and draws the picture."""
    sweep = Path(config.runs) if config.runs is not None else latest()
    runs = read_runs(sweep)
    folder = RunFolder(config.output_dir)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    picture = folder.pictures / "lineage.png"
    terms = {run.name: {name: run.bits(name) for name in TERMS[1:]} for run in runs}
    layers = {run.name: list(run.layers.values()) for run in runs if run.layers}
    samples = {run.name: Image.open(run.samples) for run in runs if run.samples.exists()}
    ladder_figure(terms, layers, samples).savefig(picture, dpi=120)
    folder.write_metrics({"lineage": {run.name: {"test": run.test, "provenance": run.facts} for run in runs}})
    screen.show(ladder_table(runs), screen.listing("from", [str(sweep)]), screen.listing("picture", [str(picture)]))
