"""What a finished run leaves: metrics.json, images, and the closing tables."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vdm.bound import VariationalModel
from vdm.cli.job import job
from vdm.cli.preflight import Plan
from vdm.config.composed import to_plain
from vdm.config.instantiate import TARGET, calls
from vdm.config.trust import TrustParts
from vdm.evaluation import warnings
from vdm.evaluation.samples.images import draw_examples, draw_samples
from vdm.plots.figures import bound_curves
from vdm.reports import console
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.examples import Examples, description, write_examples
from vdm.runs.files import file_sha256, write_png
from vdm.runs.folder import as_metrics
from vdm.runs.tables import read_curves
from vdm.training.callbacks.final_images import FinalImages
from vdm.training.callbacks.no_result import NoResult
from vdm.training.loggers.base import save_image


def write_results(plan: Plan, checkpoint: Path, effort: Mapping[str, Any]) -> None:
    """Write examples.npz, metrics.json and the images, close the loggers, and print the closing tables.

    Args:
        checkpoint: the one that was tested.
        effort: parameters, steps and seconds of training, for the provenance.
    """
    bounds, test = plan.terms.results, plan.task.test
    tested: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_sha256": file_sha256(checkpoint)}
    tested |= {"step": read_checkpoint(checkpoint).step, "weights": "ema"}
    made = {
        "model": kind_of(plan.task.evaluated),
        "device": str(plan.trainer.strategy.root_device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if augmentation := getattr(getattr(plan.task.evaluated, "augmentation", None), "description", ""):
        made["augmentation"] = augmentation
    facts = {**plan.facts, **tested, "repeats": test.repeats, "draws_seed": test.seed, **effort, **made}
    metrics: dict[str, Any] = {stage: as_metrics(estimates) for stage, estimates in sorted(bounds.items())}
    scores = {} if plan.scores is None else plan.scores.scores.entry
    if scores:
        metrics["samples"] = {**scores, "checkpoint_sha256": file_sha256(checkpoint)}
    about = {**facts, "split": "test", "samples": scores}
    sentences = warnings.warnings(plan.task.evaluated, bounds["test"], {}, plan.data, about)
    sentences += [effort["ended"]] if "ended" in effort else []
    sentences += [
        f"{name.replace('_', ' ')} of the validation is {each.value}: the checkpoint was chosen without it"
        for name, each in bounds.get("val", {}).items()
        if not math.isfinite(each.value)
    ]
    trial = plan.callbacks.get("no_result")
    sentences = [trial.sentence, *sentences] if isinstance(trial, NoResult) else sentences
    write_examples(plan.folder.examples, _examples(plan))
    plan.folder.write_metrics(metrics | {"warnings": sentences, "provenance": facts})
    if not isinstance(trial, NoResult) or trial.pictures:
        _save_images(plan)
    for logger in plan.trainer.loggers:
        logger.finalize("success")
    _print(plan, checkpoint, sentences)


def _examples(plan: Plan) -> Examples:
    """Return the content of examples.npz: the test set's bound by example."""
    test, dims = plan.task.test, math.prod(plan.data.event_shape)
    draws = {"seed": test.seed, "repeats": test.repeats}
    about = description(plan.facts["data"], "test", dims, plan.config.levels, plan.config.seed, draws)
    return plan.terms.examples._replace(about=about)


def kind_of(model: VariationalModel) -> str:
    """Return the class of a model, and that of its schedule if it has one: "VDM, LinearSchedule"."""
    return ", ".join(type(each).__name__ for each in (model, getattr(model, "schedule", None)) if each is not None)


def _save_images(plan: Plan) -> None:
    """Write samples, the bound over training, and the callbacks' own images of the evaluated model."""
    trainer, data, folder = plan.trainer, plan.data, plan.folder
    model = plan.task.evaluated.to(trainer.strategy.root_device)  # the Trainer has moved it to the CPU
    save_image(trainer, folder.pictures / "samples.png", "samples", draw_samples(model, data, 64, plan.config.seed))
    save_image(trainer, folder.pictures / "test_examples.png", "test_examples", draw_examples(model, data, 64))
    if folder.curves.exists():
        write_png(folder.pictures / "bound.png", bound_curves(read_curves(folder.curves)))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FinalImages):
            callback.save(trainer, model, data)


def _print(plan: Plan, checkpoint: Path, sentences: list[str]) -> None:
    """Print the closing table, the images, and commands to try next."""
    bound, scores = plan.terms.results["test"], {} if plan.scores is None else plan.scores.scores.entry
    profiles = [console.short_path(path) for path in sorted(plan.folder.root.glob("*-profile*"))]
    known = warnings.above_entropy(bound["bits_per_dim"], plan.data, "test")
    console.show(
        console.bound_table(f"{plan.data.title}, whole test set, averaged weights of {checkpoint.name}", bound),
        *([known] if known else []),
        *console.warnings_listing(sentences),
        console.pictures_listing(plan.folder.pictures),
        *([console.listing("profiles", profiles)] if profiles else []),
        console.listing("next", _next_commands(plan, checkpoint)),
        *([console.samples_listing(scores)] if scores else []),
    )


def _next_commands(plan: Plan, checkpoint: Path) -> list[str]:
    """Return commands that run as printed: quoted for the shell, with the packages that the model's parts come from."""
    chosen, trust = job().choices, _trust(to_plain(plan.config))
    again = " ".join(f"{group}={chosen[group]}" for group in ("experiment", "rung", "data", "model") if chosen.get(group))
    other = ["schedule=cosine", "schedule=linear,cosine seed=1,2,3"] if "schedule" in chosen else ["seed=1", "seed=1,2,3"]
    ckpt = console.path_argument("ckpt", checkpoint)
    return [
        f"{console.sibling_command('vdm-evaluate')} {ckpt}{trust}",
        f"{console.sibling_command('vdm-sample')} {ckpt} n=64{trust}",
        f"{console.sibling_command('vdm-report')} {console.path_argument('run', plan.folder.root)}",
        f"{console.sibling_command('vdm-train')} {again} {other[0]}",
        f"{console.sibling_command('vdm-train')} -m {again} {other[1]}",
    ]


def _trust(config: Mapping[str, Any]) -> str:
    """Return the argument ``trust=`` for the packages, other than vdm, of the model and the data; or nothing."""
    names = [node[TARGET] for part in ("data", "model", "test") for _, node in calls(config.get(part))]
    packages = sorted({name.partition(".")[0] for name in names if not TrustParts().allows_name(name)})
    return " " + console.quoted(f"trust=[{','.join(packages)}]") if packages else ""
