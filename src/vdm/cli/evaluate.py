"""``vdm-evaluate ckpt=…``: the likelihood of a trained model by every estimator asked for, with error bars."""

import signal
import sys
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm.auto import tqdm

from vdm.batch import Batch
from vdm.cli import command
from vdm.cli.build import Parts, restore
from vdm.cli.command import device_of, quiet
from vdm.cli.train import leave_nothing_open
from vdm.config.composed import instantiate_own, to_plain
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation import Estimator, Result, warnings
from vdm.evaluation.ranks import is_rank_zero
from vdm.reports import console
from vdm.runs.checkpoints import Checkpoint
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder, as_metrics
from vdm.runs.provenance import provenance
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.progress import Progress
from vdm.training.callbacks.score_samples import ScoreSamples


def parts_of(config: DictConfig, group: str) -> list[tuple[str, Any]]:
    """Name and config of each part of a group, of which all may have been left out."""
    return list((OmegaConf.select(config, group) or {}).items())


def evaluate(config: DictConfig) -> float:
    """The bound in bits/dim of one split; the same number as at the end of training, unless asked otherwise."""
    quiet()
    chosen = {
        name: instantiate_own(node, f"estimators.{name}")
        for name, node in parts_of(config, "estimators")
        if asked(config[name])
    }
    relatives = [
        instantiate_own(node, f"relatives.{name}") for name, node in parts_of(config, "relatives") if asked(config[name])
    ]
    device = device_of(config.accelerator)
    fid = instantiate_own(OmegaConf.select(config, "fid"), "fid")
    changes = {"test.repeats": config.repeats, "test.seed": config.seed, "data.eval_batch_size": config.batch_size}
    for part in ("model.sampling.sampler", "model.sampling.spacing"):
        changes[part] = OmegaConf.select(config, part)
    parts, checkpoint = restore(config.ckpt, config.ema, changes, config.trust)
    scores = ScoreSamples(fid, checkpoint.config["levels"], relatives=relatives)
    scores.check(parts.task.evaluated, parts.data)
    for each in chosen.values():
        each.check(parts.task.evaluated)
    folder = RunFolder(config.output_dir)
    own = own_bound(parts, config)
    results: list[Result] = []
    failure: BaseException | None = None
    missing = [*(["samples"] if fid is not None else []), *chosen]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        scores.score(parts.task.evaluated.to(device).eval(), parts.data, device)
        leave_nothing_open()
        if not is_rank_zero():
            return own["bits_per_dim"].value
        missing = [*chosen]
        for name, each in chosen.items():
            results += run_estimator(name, each, parts, config)
            missing.remove(name)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # what is known by then is kept, and says what it lacks
        if not is_rank_zero():
            raise
        failure = error
    finally:
        signal.signal(signal.SIGTERM, before)
    facts = facts_of(parts, checkpoint, config)
    others = [result.terms["bits_per_dim"] for result in results]
    trained = {"trained_on": checkpoint.provenance.get("data")}
    said = warnings.warnings(parts.task.evaluated, own, others, parts.data, facts | trained)
    metrics: dict[str, Any] = {config.split: as_metrics(own), "warnings": said, "provenance": facts}
    if results:
        metrics["estimates"] = {result.name: as_entry(result) for result in results}
    if failure is not None:
        reason = f"{failure}" if isinstance(failure, InvalidInput) else "stopped: " + type(failure).__name__
        metrics["without"] = dict.fromkeys(missing, "not reached") | dict.fromkeys(missing[:1], reason)
    if scores.entry:
        metrics["samples"] = scores.entry | {"checkpoint_sha256": file_sha256(checkpoint.path)}
    folder.write_metrics(metrics)
    title = f"{parts.data.title}, whole {config.split} set, {facts['weights']} weights of step {checkpoint.step}"
    tables: list[object] = [console.bound_table(title, own)]
    if results:
        tables.append(console.estimates_table(own["bits_per_dim"], facts, results))
    if scores.entry:
        tables.append(console.samples_listing(scores.entry))
    known = warnings.above_entropy(own["bits_per_dim"], parts.data, config.split)
    console.show(*tables, *([known] if known else []), *console.warned(said), f"written to {console.near(folder.metrics)}")
    if failure is not None:
        raise failure
    return own["bits_per_dim"].value


def asked(setting: object) -> bool:
    """Whether an estimate is asked for: by anything but null and false, so that what 0 and [] say is refused."""
    return setting is not None and setting is not False


def facts_of(parts: Parts, checkpoint: Checkpoint, config: DictConfig) -> dict[str, Any]:
    """What the numbers depend on, as it stands in metrics.json."""
    return {
        **provenance(parts.data, checkpoint.config["seed"]),
        "checkpoint": str(checkpoint.path),
        "step": checkpoint.step,
        "weights": "ema" if config.ema else "raw",
        "split": config.split,
        "repeats": parts.task.test.repeats,
        "draws_seed": parts.task.test.seed,
        "precision": str(torch.get_default_dtype()).removeprefix("torch."),
    }


def own_bound(parts: Parts, config: DictConfig) -> dict[str, Estimate]:
    """The bound at the run's own time, term by term, as at the end of training."""
    terms = BoundTerms()
    settings = {
        "_target_": "lightning.pytorch.Trainer",
        "accelerator": config.accelerator,
        "devices": to_plain(config.devices),
        "logger": False,
        "callbacks": [terms, Progress()],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    trainer: pl.Trainer = instantiate_own(settings, "accelerator and devices")
    parts.data.trainer = trainer  # each process takes its share
    trainer.test(parts.task, dataloaders=parts.data.ordered(config.split), verbose=False)
    return terms.results["test"]


def run_estimator(name: str, estimator: Estimator, parts: Parts, config: DictConfig) -> list[Result]:
    """One estimator on a whole split, with a progress bar."""
    device = device_of(config.accelerator)
    split = parts.data.split(config.split)
    condition = None if split.condition is None else split.condition.to(device)
    data = Batch(split.x.to(device), torch.arange(len(split.x)), condition)
    model = parts.task.evaluated.to(device).eval().requires_grad_(False)
    with tqdm(total=1000, desc=name, unit="‰", dynamic_ncols=True, mininterval=0.5) as bar:
        return estimator(model, data, lambda done: bar.update(int(1000 * done) - bar.n))


def as_entry(result: Result) -> dict[str, Any]:
    """One estimate as it stands in metrics.json; the headline's value and errors at the top."""
    terms = as_metrics(result.terms)
    return {**terms, "examples": result.examples, "draws": result.draws, "network_calls": result.calls, **result.facts}


def main() -> None:
    switches = ("continuous", "flow", "kid", "inception_score", "precision_recall")
    settings = {"ckpt": str, "split": str, "ema": bool, "accelerator": str, **dict.fromkeys(switches, bool | None)}
    parts = dict.fromkeys(("estimators", "relatives"), Mapping[str, Mapping])
    command.run("evaluate", evaluate, settings | parts)
