"""``vdm-report lineage``: VAE, HVAE and the rungs from the free MHVAE to the VDM, side by side."""

import warnings
from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from vdm.data.image_files import PIXELS
from vdm.errors import InvalidInput, printable
from vdm.plots.figures import ladder_figure
from vdm.reports import console
from vdm.reports.groups import differing, mark_flips, settings_label
from vdm.reports.page import Page, Picture, Section, warnings_section, write_page
from vdm.reports.table import Table
from vdm.runs.folder import RunFolder, as_metrics
from vdm.runs.reading import check_contained, reading
from vdm.runs.sweeps import Run, read_run
from vdm.terms import AUXILIARY, LABELS, TERMS

SWEEPS = Path("logs/lineage")

HEADINGS = (
    *("model", "total", "mc_se", "data_se", "reconstruction", "prior", "matching", "latent"),
    *("parameters", "steps", "CPU-s"),
)

TITLE = "the ladder, bits/dim of the test set"

NOTE = (
    "Matching: denoising matching, of the layers below the top. Latent: the KL of an auxiliary latent. "
    f"{console.ERRORS_NOTE} Both are for the total."
)


def lineage(config: DictConfig) -> None:
    """Print the table, and write it with the figure as a page, and metrics.json."""
    sweep = Path(config.runs) if config.runs is not None else latest_sweep()
    runs, folder = read_runs(sweep), RunFolder(config.output_dir)
    table = Table(HEADINGS, [_row(name, run) for name, run in runs.items()], TITLE, NOTE)
    sentences = [(name, sentence) for name, run in runs.items() for sentence in run.warnings]
    ladder = Section(TITLE, NOTE, [table], [_picture(sweep, runs)])
    written = write_page(folder.root, Page("VAE, HVAE and the ladder to the VDM", [ladder, warnings_section(sentences)]))
    results = {name: {"test": as_metrics(run.test), "provenance": run.metrics["provenance"]} for name, run in runs.items()}
    folder.write_metrics({"lineage": results})
    console.show(
        table,
        *console.warnings_listing(f"{name}: {sentence}" for name, sentence in sentences),
        console.listing("from", [console.short_path(sweep)]),
        console.listing("written", map(console.short_path, written)),
    )


def read_runs(sweep: Path) -> dict[str, Run]:
    """Return the finished runs of a multirun in the order of its jobs, by model and by the settings in which they differ.

    Raises:
        InvalidInput: no finished run; malformed files; runs on different data or with the same settings; a link out of the
            folder.
    """
    check_contained(sweep)
    files = sorted(sweep.glob("*/metrics.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    runs = [_read_finished(path.parent) for path in files]
    if not runs:
        raise InvalidInput(f"{sweep} holds no finished run: name the folder of a multirun by runs=…")
    if len({run.data_id for run in runs}) > 1:
        raise InvalidInput(f"the runs in {sweep} are on different data and cannot be compared: sweep over models alone")
    names = [name for name in differing([run.settings for run in runs], except_for="model") if name != "rung"]
    named: dict[str, Run] = {}
    for path, run in zip(files, runs, strict=True):
        model = run.settings.get("rung", run.settings.get("model", printable(path.parent.name)))
        name = ", ".join(filter(None, (model, settings_label(run.settings, names))))
        if name in named:
            raise InvalidInput(
                f"{sweep} holds several finished runs of {name}, with the same settings: move all but one away"
            )
        named[name] = run
    return named


def _read_finished(root: Path) -> Run:
    run = read_run(root)
    if run.state != "finished":
        raise InvalidInput(run.note)
    with reading(root):
        _row("", run)
    return run


def latest_sweep() -> Path:
    """Return the newest multirun of experiment=lineage.

    Raises:
        InvalidInput: there is none.
    """
    folders = sorted(path for path in SWEEPS.glob("*") if path.is_dir())
    if not folders:
        raise InvalidInput(f"no multirun in {SWEEPS}: run vdm-train experiment=lineage first, or name one by runs=…")
    return folders[-1]


def _row(name: str, run: Run) -> list[str]:
    """Return the bound by term with the total's errors, and the effort of training."""
    total, *terms = (run.test[term].shown() for term in TERMS)
    latent = run.test[AUXILIARY].shown()[0] if AUXILIARY in run.test else ""
    facts = run.metrics["provenance"]
    spent = facts.get("training_cpu_seconds")
    effort = (f"{facts['parameters']:,}", str(facts["steps"]), "" if spent is None else f"{spent:.0f}")
    return [mark_flips(name, run.flipped), *total, *(value for value, *_ in terms), latent, *effort]


def _picture(sweep: Path, runs: dict[str, Run]) -> Picture:
    shown = [term for term in list(LABELS)[1:] if any(term in run.test for run in runs.values())]
    terms = {name: {t: run.test[t].value if t in run.test else 0.0 for t in shown} for name, run in runs.items()}
    layers = {name: values for name, run in runs.items() if (values := layers_of(run))}
    files = {name: run.folder.pictures / "samples.png" for name, run in runs.items() if run.folder is not None}
    samples = {name: image for name, path in files.items() if (image := read_picture(path)) is not None}
    return Picture.of("pictures/lineage", f"from {sweep}", ladder_figure(terms, layers, samples))


def layers_of(run: Run) -> list[float]:
    """Return the terms of single layers in bits/dim; empty for a model that does not report them."""
    return [estimate.value for name, estimate in run.test.items() if name.startswith("layer_")]


def read_picture(path: Path) -> Image.Image | None:
    """Return a PNG file, scaled down to 1024 pixels a side; None if it is missing, damaged or enormous."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > PIXELS:  # PIL would only warn
                return None
            image.thumbnail((1024, 1024))  # more than the figure has room for
            return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except Exception:  # a damaged file may raise anything
        return None
