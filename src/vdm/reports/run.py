"""``vdm-report run=FOLDER``: one page on a run, finished or not, from the files in its folder."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from vdm.curves import EMPTY_CURVE, Curve
from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.plots.figures import draw_bound, draw_terms, evenly_spaced, profile_figure, schedule_figure, variance_figure
from vdm.plots.lines import STEP_LABEL, line_figure, panel
from vdm.reports import console
from vdm.reports.page import Page, Picture, Section, warnings_section, write_page
from vdm.reports.table import Table, text_tables
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.resuming import leaves
from vdm.runs.sweeps import Run, read_run
from vdm.runs.tables import STANDARD_ERRORS, read_curves, read_profiles, read_schedules
from vdm.terms import LABELS, TERMS

PANELS = {
    "train/learning_rate": ("learning rate", "", "linear"),
    "train/gradient_norm": ("gradient norm, before clipping", "", "log"),
    "train/gradient_noise_scale": ("gradient noise scale", "examples", "log"),
    "profile/one_t_variance": ("variance of one draw of the one-t estimate", "(bits/dim)²", "log"),
    "throughput/examples_per_second": ("throughput", "examples per second", "linear"),
    "throughput/utilisation": ("FLOP/s, as a fraction of the measured peak", "", "linear"),
}
"""Columns of metrics.csv that are drawn in a panel each: title, unit, scale."""

CAPTIONS = {
    "samples": "samples of the averaged model",
    "test_examples": "as many test examples, for comparison",
    "trajectory": "samples during generation: x_t, and below it the prediction x̂_0(x_t)",
    "noising": "test examples x_0 and a path of q, from the least noise to the most",
    "denoised": "the same x_t, and below each the denoiser's prediction x̂_0(x_t)",
    "reconstructions": "test examples, and below each three draws of x given its latents",
    "traversals": "one row a layer: its most informative coordinate from −3 to 3 standard deviations",
}
"""Captions of the pictures that training writes; other pictures are captioned by their names."""


def report(root: Path, output: Path) -> None:
    """Write report.html and its pictures to ``output``, and print the path."""
    run = read_run(root)
    page, *_ = write_page(output, page_of(run))
    console.show(
        f"{console.short_path(root)}: {escape(_status(run))}", console.listing("written", [console.short_path(page)])
    )


def _status(run: Run) -> str:
    if run.state != "finished":
        return f"{run.state}: {run.note}"
    return f"finished: {console.bound_sentence('test', run.test['bits_per_dim'])}"


def page_of(run: Run) -> Page:
    """Return the page on a run.

    Raises:
        InvalidInput: a folder without a run.
    """
    folder = run.folder
    if folder is None or not folder.config.exists():
        raise InvalidInput(
            f"{folder and folder.root} holds no run: name the folder that vdm-train wrote, with its config.yaml"
        )
    curves = read_curves(folder.curves)
    sections = [
        _bound(run, curves),
        warnings_section([[sentence] for sentence in run.warnings]),
        Section("Further measurements", "metrics.json", _flat(_other_metrics(run.metrics))),
        _curves(curves),
        _noise_levels(folder),
        *_pictures(folder),
        _panels(curves),
        _settings(run, folder),
        Section("Provenance", "metrics.json: provenance", _flat(run.metrics.get("provenance", {}))),
    ]
    return Page(folder.root.resolve().name, sections, run.state, _status(run), about(run.metrics.get("provenance", {})))


def about(facts: Mapping[str, Any]) -> str:
    """Return what a provenance says in one line: data set, model, steps, date, device, version of the code."""
    named = facts.get("data", {}).get("name", ""), facts.get("model", "")
    steps = f"{facts['steps']:,} steps" if isinstance(facts.get("steps"), int) else ""
    machine = facts.get("gpu") or facts.get("machine", "")
    version = f"vdm {facts['vdm']}" if "vdm" in facts else ""
    return " · ".join(str(each) for each in (*named, steps, str(facts.get("finished", ""))[:10], machine, version) if each)


def _bound(run: Run, curves: Mapping[str, Curve]) -> Section:
    """Return the bound by term on both evaluated sets, or of the last validation of a run without a result."""
    names = list(run.test or TERMS)
    stages = {stage: _estimates(run, curves, stage, names) for stage in ("test", "val")}
    stages = {stage: estimates for stage, estimates in stages.items() if estimates}
    every = [estimate for found in stages.values() for estimate in found.values()]
    columns = 3 if all(math.isnan(estimate.df) for estimate in every) else 4  # without intervals in old files
    rows = []
    for name in names:
        cells = [(console.error_cells(found[name]) if name in found else ("—",) * 4)[:columns] for found in stages.values()]
        rows.append([LABELS.get(name, name.replace("_", " ")), *itertools.chain.from_iterable(cells)])
    headings = ["bits/dim", *(cell for stage in stages for cell in (stage, *console.ERROR_HEADINGS[1:columns]))]
    about = (
        f"{_source(run, curves)}{console.ERRORS_NOTE if columns == 3 else f'{console.INTERVAL_NOTE} {console.ERRORS_NOTE}'}"
    )
    return Section("Bound", about, [Table(headings, rows)] if stages else [])


def _estimates(run: Run, curves: Mapping[str, Curve], stage: str, names: Sequence[str]) -> dict[str, Estimate]:
    """Return the estimates of a stage by term, from metrics.json or the last row of metrics.csv."""
    entries = run.metrics.get(stage, {})
    if entries:
        return {name: read_estimate(entries[name]) for name in names if name in entries}
    columns = {
        name: [curves.get(f"{stage}/{name}{end}", EMPTY_CURVE)[1] for end in ("", *STANDARD_ERRORS)] for name in names
    }
    return {
        name: Estimate(*(values[-1] for values in each))._replace(df=math.nan) for name, each in columns.items() if all(each)
    }


def _source(run: Run, curves: Mapping[str, Curve]) -> str:
    """Return the source of the numbers in the section on the bound."""
    if run.state == "finished":
        facts = defaultdict(lambda: "?", run.metrics.get("provenance", {}))
        weights = f"{facts['weights']} weights of {facts['checkpoint']}"
        return (
            f"metrics.json: whole sets, {weights}; test: {facts['repeats']} draws an example, seed {facts['draws_seed']}. "
        )
    steps = curves.get("val/bits_per_dim", EMPTY_CURVE)[0]
    return f"metrics.csv: validation at step {steps[-1]}; no test yet. " if steps else ""


def _other_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics besides the terms of the bound, such as FID."""
    others = {name: value for name, value in metrics.items() if name not in ("test", "val", "warnings", "provenance")}
    for stage in ("test", "val"):
        entries = metrics.get(stage, {}).items()
        others |= {f"{stage}.{k}": v for k, v in entries if k not in LABELS and not k.startswith("layer_")}
    return others


def _flat(node: Mapping[str, Any]) -> list[Table]:
    """Return a table of the leaves of a tree: dotted path and value."""
    pairs = [(name, value) for name, value in leaves(dict(node)) if value != {}]
    return text_tables([(name, f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in pairs])


def _curves(curves: Mapping[str, Curve]) -> Section:
    if "train/bits_per_dim" not in curves:
        return Section("Over training")
    pictures = [Picture.of("bound", "training: means over batches, one t for each example", panel(draw_bound, curves))]
    if "val/bits_per_dim" in curves:
        pictures.append(Picture.of("terms", "the averaged weights on the whole validation set", panel(draw_terms, curves)))
    return Section("Over training", "metrics.csv: train/…, val/…", pictures=pictures)


def _noise_levels(folder: RunFolder) -> Section:
    """Return figures of the profile and the schedule at a few steps, the first and the last among them."""
    profiles, schedules, pictures = read_profiles(folder.profile), read_schedules(folder.schedule), []
    if profiles:
        chosen = {f"step {step}": profiles[step] for step in evenly_spaced(list(profiles))}
        caption = "training draws since the previous profile; the area below a line is the denoising term"
        pictures.append(Picture.of("profile", caption, profile_figure(chosen)))
        pictures.append(Picture.of("variance", "the same draws: where the estimate varies", variance_figure(chosen)))
    if schedules:
        learned = {f"step {step}": schedules[step] for step in evenly_spaced(list(schedules))}
        caption = "learned" if len(learned) > 1 else "fixed"
        pictures.append(Picture.of("schedule", f"γ(t) and SNR(t): {caption}", schedule_figure(learned)))
    return Section("Noise levels", "profile.csv, schedule.csv", pictures=pictures)


def _pictures(folder: RunFolder) -> Iterator[Section]:
    """Yield the section of the final pictures, and that of the samples over training."""
    paths = {path.stem: path for path in sorted(folder.pictures.glob("*.png")) if path.stem != "bound"}
    over_training = [name for name in paths if name.startswith("samples_step_")]
    named = [name for name in CAPTIONS if name in paths]
    rest = [name for name in paths if name not in named and name not in over_training]

    def section(title: str, captions: Mapping[str, str]) -> Section:
        contents = {name: paths[name].read_bytes() for name in captions}
        pictures = [Picture(name, captions[name], png) for name, png in contents.items() if png.startswith(b"\x89PNG")]
        return Section(title, "pictures/", pictures=pictures)

    yield section("Pictures", {name: CAPTIONS[name] for name in named} | {name: name.replace("_", " ") for name in rest})
    few = [over_training[i] for i in evenly_spaced(range(len(over_training)), most=4)]
    steps = {name: f"step {int(name.removeprefix('samples_step_'))}" for name in few}
    yield section("Samples over training", steps)._replace(small=True)


def _panels(curves: Mapping[str, Curve]) -> Section:
    pictures = [
        Picture.of(name.replace("/", "_"), name, line_figure({"": curves[name]}, title, STEP_LABEL, unit, scale))
        for name, (title, unit, scale) in PANELS.items()
        if name in curves
    ]
    return Section("Optimisation and speed", "metrics.csv, one panel for each column", pictures=pictures)


def _settings(run: Run, folder: RunFolder) -> Section:
    overrides = text_tables(sorted(run.settings.items()), headings=("override", ""))
    config = printable(folder.config.read_text())
    return Section("Settings", "overrides of the command line, and config.yaml", overrides, folded=config)
