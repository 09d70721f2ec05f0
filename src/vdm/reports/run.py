"""``vdm-report run=FOLDER``: one page on a run, finished or not, from the files of its folder alone."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from vdm.curves import EMPTY_CURVE, Curve
from vdm.errors import InvalidInput, printable
from vdm.estimate import Estimate
from vdm.plots.figures import bound_figure, profile_figure, schedule_figure, some_of, terms_figure, variance_figure
from vdm.plots.lines import STEP, line_figure
from vdm.reports import console
from vdm.reports.page import Page, Picture, Section, Table, write_page
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.sweeps import Run, read_run
from vdm.runs.tables import read_curves, read_profiles, read_schedules
from vdm.terms import TERM_LABELS, TERMS

SINGLE = {
    "train/learning_rate": ("learning rate", "", "linear"),
    "train/gradient_norm": ("gradient norm, before clipping", "", "log"),
    "train/gradient_noise_scale": ("gradient noise scale", "examples", "log"),
    "profile/one_t_variance": ("variance of one draw of the one-t estimate", "(bits/dim)²", "log"),
    "throughput/examples_per_second": ("throughput", "examples per second", "linear"),
    "throughput/utilisation": ("FLOP/s, as a part of the measured peak", "", "linear"),
}
"""Columns of metrics.csv with a panel of their own: title, unit, scale."""

CAPTIONS = {
    "samples": "samples of the averaged model",
    "trajectory": "samples on their way from noise: x_t, and below it x̂_0(x_t)",
    "noising": "test examples x_0 and a path of q, from the least noise to the most (figure 1.4)",
    "denoised": "the same x_t, and below each what the denoiser makes of it, x̂_0(x_t)",
    "reconstructions": "test examples, and below each draws of x given its latents",
    "traversals": "one row a layer: its most informative coordinate from −3 to 3 standard deviations",
}
"""Of the pictures that training leaves; others are shown by name."""


def report(root: Path, output: Path) -> None:
    """Writes report.html and its pictures, and says where."""
    run = read_run(root)
    page, *_ = write_page(output, page_of(run))
    console.show(f"{console.near(root)}: {escape(told(run))}", console.listing("written", [console.near(page)]))


def told(run: Run) -> str:
    """One line on how a run stands."""
    if run.state != "finished":
        return f"{run.state}: {run.note}"
    return f"finished: {console.in_words('test', run.test['bits_per_dim'])}"


def page_of(run: Run) -> Page:
    """All that the folder of a run says.

    Raises:
        InvalidInput: a folder that no run wrote.
    """
    folder = run.folder
    if folder is None or not folder.config.exists():
        raise InvalidInput(
            f"{folder and folder.root} holds no run: name the folder that vdm-train wrote, with its config.yaml"
        )
    metrics, curves = _metrics(folder), read_curves(folder.curves)
    facts, warnings = metrics.pop("provenance", {}), [[str(line)] for line in metrics.pop("warnings", [])]
    sections = [
        _bound(metrics, facts, curves),
        Section("Warnings", "metrics.json", [Table((), warnings, words=True)] if warnings else []),
        Section("Further measurements", "metrics.json", _flat(_others(metrics))),
        _curves(curves),
        _noise_levels(folder),
        *_pictures(folder),
        _panels(curves),
        _settings(run, folder),
        Section("Where the numbers come from", "metrics.json: provenance", _flat(facts)),
    ]
    return Page(folder.root.resolve().name, run.state, told(run), sections)


def _metrics(folder: RunFolder) -> dict[str, Any]:
    """What metrics.json holds; nothing if it is not there, or cannot be read, which the state of the run says."""
    try:
        content = json.loads(folder.metrics.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _bound(metrics: Mapping[str, Any], facts: Mapping[str, Any], curves: Mapping[str, Curve]) -> Section:
    """Both evaluated sets by term, or the last validation of a run that has no result."""
    names = [name for name in metrics.get("test", {}) if name in TERM_LABELS or name.startswith("layer_")] or list(TERMS)
    stages = {stage: [_estimate(metrics, curves, stage, name) for name in names] for stage in ("test", "val")}
    stages = {stage: found for stage, found in stages.items() if any(found)}
    headings = ["bits/dim", *(cell for stage in stages for cell in (stage, "mc_se", "data_se"))]
    rows = []
    for i, name in enumerate(names):
        numbers = [("—",) * 3 if (each := found[i]) is None else each.shown() for found in stages.values()]
        rows.append([TERM_LABELS.get(name, name.replace("_", " ")), *itertools.chain.from_iterable(numbers)])
    if "test" in metrics:
        of = f"{facts.get('weights', '?')} weights of {facts.get('checkpoint', '?')}"
        draws = f"{facts.get('repeats', '?')} draws an example, seed {facts.get('draws_seed', '?')}"
        note = f"metrics.json: whole sets, {of}; test: {draws}. "
    else:
        steps = curves.get("val/bits_per_dim", EMPTY_CURVE)[0]
        note = f"metrics.csv: validation at step {steps[-1]}; no test yet. " if steps else ""
    return Section("Bound", note + console.ERRORS, [Table(headings, rows)] if stages else [])


def _estimate(metrics: Mapping[str, Any], curves: Mapping[str, Curve], stage: str, name: str) -> Estimate | None:
    if name in metrics.get(stage, {}):
        return read_estimate(metrics[stage][name])
    columns = [curves.get(f"{stage}/{name}{suffix}", EMPTY_CURVE)[1] for suffix in ("", "_mc_se", "_data_se")]
    return Estimate(*(column[-1] for column in columns)) if all(columns) else None


def _others(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What is no term of the bound: FID, for one."""
    own = {stage: metrics.get(stage, {}) for stage in ("test", "val")}
    rest = {key: value for key, value in metrics.items() if key not in own}
    for stage, entries in own.items():
        rest |= {f"{stage}.{k}": v for k, v in entries.items() if k not in TERM_LABELS and not k.startswith("layer_")}
    return rest


def _flat(node: Mapping[str, Any]) -> list[Table]:
    def walk(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, f"{value:.6g}" if isinstance(value, float) else str(value)

    rows = list(walk(dict(node), ""))
    return [Table((), rows, words=True)] if rows else []


def _curves(curves: Mapping[str, Curve]) -> Section:
    if "train/bits_per_dim" not in curves:
        return Section("Over training")
    pictures = [Picture.of("bound", "training: means over batches, one t an example", bound_figure(curves))]
    if "val/bits_per_dim" in curves:
        pictures.append(Picture.of("terms", "the averaged weights on the whole validation set", terms_figure(curves)))
    return Section("Over training", "metrics.csv: train/…, val/…", pictures=pictures)


def _noise_levels(folder: RunFolder) -> Section:
    """The profile and the schedule, at a few steps from first to last."""
    profiles, schedules, pictures = read_profiles(folder.profile), read_schedules(folder.schedule), []
    if profiles:
        chosen = {f"step {step}": profiles[step] for step in some_of(list(profiles))}
        caption = "training draws since the rows before; the area below a line is the denoising term"
        pictures.append(Picture.of("profile", caption, profile_figure(chosen)))
        pictures.append(Picture.of("variance", "the same draws: where the estimate varies", variance_figure(chosen)))
    if schedules:
        moves = {f"step {step}": schedules[step] for step in some_of(list(schedules))}
        caption = "as it was learned" if len(moves) > 1 else "fixed"
        pictures.append(Picture.of("schedule", f"γ(t) and SNR(t): {caption}", schedule_figure(moves)))
    return Section("Noise levels", "profile.csv, schedule.csv", pictures=pictures)


PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""


def _pictures(folder: RunFolder) -> Iterator[Section]:
    there = {path.stem: path for path in sorted(folder.pictures.glob("*.png")) if path.stem != "bound"}
    on_the_way = [name for name in there if name.startswith("samples_step_")]
    named = [name for name in CAPTIONS if name in there]
    rest = [name for name in there if name not in named and name not in on_the_way]

    def section(title: str, captions: Mapping[str, str]) -> Section:
        contents = {name: there[name].read_bytes() for name in captions}
        shown = [Picture(name, captions[name], png) for name, png in contents.items() if png.startswith(PNG)]
        return Section(title, "pictures/", pictures=shown)

    yield section("Pictures", {name: CAPTIONS[name] for name in named} | {name: name.replace("_", " ") for name in rest})
    few = [on_the_way[i] for i in some_of(range(len(on_the_way)), most=4)]
    steps = {name: f"step {int(name.removeprefix('samples_step_'))}" for name in few}
    yield section("Samples over training", steps)._replace(small=True)


def _panels(curves: Mapping[str, Curve]) -> Section:
    pictures = []
    for name, (title, unit, scale) in SINGLE.items():
        if name in curves:
            figure = line_figure({"": curves[name]}, title, STEP, unit, scale)
            pictures.append(Picture.of(name.replace("/", "_"), name, figure))
    return Section("Optimisation and speed", "metrics.csv, a panel a column", pictures=pictures)


def _settings(run: Run, folder: RunFolder) -> Section:
    rows = [(name, value) for name, value in sorted(run.settings.items())]
    told = [Table(("told", ""), rows, words=True)] if rows else []
    return Section(
        "Settings", "config.yaml, and what the command line said", told, folded=printable(folder.config.read_text())
    )
