"""``vdm-evaluate ckpt=…``: the likelihood of a trained model by every estimator asked for, with error bars."""

import math
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vdm.bars import share_bar
from vdm.batch import Batch, first_examples
from vdm.cli import command, entry, machine
from vdm.cli.preflight import check_resources
from vdm.cli.train import leave_nothing_open
from vdm.config.composed import instantiate_own, to_plain
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation, Estimator, Result, warnings
from vdm.evaluation.ranks import is_rank_zero
from vdm.evaluation.samples.scores import SampleScores
from vdm.laws import check_model, laws_fact, laws_setting
from vdm.reports import console
from vdm.runs.examples import Examples, description, write_examples
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder, as_metrics
from vdm.runs.load import LoadedRun, check_data, foreign_checkpoint, load_run
from vdm.runs.provenance import provenance
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.progress import Progress
from vdm.training.signals import ENDING, keep_lightning_out
from vdm.training.task import EvaluationTask


class Request(NamedTuple):
    """What is to be evaluated, and how.

    test: how the run's own bound is evaluated. scores: the metrics of samples; empty without ``fid``.
    """

    config: DictConfig
    run: LoadedRun
    test: BoundEvaluation
    estimators: dict[str, Estimator]
    scores: SampleScores
    device: torch.device

    @property
    def provenance(self) -> dict[str, Any]:
        """What the numbers depend on, for metrics.json."""
        run = self.run
        return {
            **provenance(run.data, run.seed),
            **laws_fact(),
            "checkpoint": str(run.checkpoint.path),
            "step": run.checkpoint.step,
            "weights": run.weights,
            "split": self.config.split,
            "repeats": self.test.repeats,
            "draws_seed": self.test.seed,
            "precision": str(torch.get_default_dtype()).removeprefix("torch."),
        }


class OwnBound(NamedTuple):
    """The bound at the run's own time: estimates by term, and the values of single examples."""

    terms: dict[str, Estimate]
    examples: Examples


class Measured(NamedTuple):
    """The bound by term and by example, further estimates, and why others are missing.

    missing: names of estimates that were not reached. failure: the exception that ended the evaluation, or None.
    """

    own: OwnBound
    results: list[Result]
    missing: list[str]
    failure: BaseException | None


def evaluate(config: DictConfig) -> float:
    """Return the bound in bits/dim of one split: the number of the end of training, unless asked otherwise."""
    with laws_setting(config.get("laws")):
        return _evaluate(config)


def _evaluate(config: DictConfig) -> float:
    request = _prepare(config)
    own = own_bound(request)
    with _signals_as_exit():
        measured = _measure(request, own)
    if is_rank_zero():
        _conclude(request, measured)
    if measured.failure is not None:
        raise measured.failure
    return own.terms["bits_per_dim"].value


def _prepare(config: DictConfig) -> Request:
    """Load the run and build what is asked for; all refusals happen here, before any work."""
    estimators = {
        name: instantiate_own(_with_draws(node, name, config), f"estimators.{name}")
        for name, node in _asked(config, "estimators").items()
    }
    relatives = [instantiate_own(node, f"relatives.{name}") for name, node in _asked(config, "relatives").items()]
    device = machine.device_of(config.accelerator)
    fid = instantiate_own(OmegaConf.select(config, "fid"), "fid")
    changes = command.data_changes(config) | {
        "test.repeats": config.repeats,
        "test.seed": config.seed,
        "test.even_gamma": config.even_gamma,
        "data.eval_batch_size": config.batch_size,
    }
    for part in ("model.sampling.sampler", "model.sampling.spacing"):
        changes[part] = OmegaConf.select(config, part)
    check_resources(to_plain(config.data), to_plain(config.devices))
    run = load_run(config.ckpt, config.ema, changes, config.trust)
    test = run.part("test")
    check_data(run.model, run.data)
    check_model(run.model, run.data.split(config.split).x)
    scores = SampleScores(fid, run.levels, relatives)
    scores.check(run.model, run.data)
    for estimator in estimators.values():
        estimator.check(run.model)
    return Request(config, run, test, estimators, scores, device)


def _asked(config: DictConfig, group: str) -> dict[str, Any]:
    """Return the parts that are asked for: by anything but null and false, so that 0 and [] reach their checks."""
    parts = OmegaConf.select(config, group) or {}
    return {name: node for name, node in parts.items() if config[name] is not None and config[name] is not False}


def _with_draws(node: DictConfig, name: str, config: DictConfig) -> DictConfig:
    """Return an estimator's config with the command's ``repeats`` and ``seed``, unless it was given its own."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    own = {override.lstrip("+").partition("=")[0] for override in given}
    for key in ("repeats", "seed"):
        if config[key] is not None and key in node and f"estimators.{name}.{key}" not in own:
            OmegaConf.update(node, key, config[key])
    return node


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Turn signals into SystemExit, so that the numbers known by then are written."""
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def own_bound(request: Request) -> OwnBound:
    """Return the bound at the run's own time, as at the end of training."""
    terms, config, run = BoundTerms(), request.config, request.run
    settings = {
        "_target_": "lightning.pytorch.Trainer",
        "accelerator": config.accelerator,
        "devices": to_plain(config.devices),
        "callbacks": [terms, Progress()],
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        "use_distributed_sampler": False,
    }
    trainer: pl.Trainer = instantiate_own(settings, "accelerator and devices")
    keep_lightning_out(trainer)
    run.data.trainer = trainer  # each process takes its share
    task = EvaluationTask(run.model, request.test)
    trainer.test(task, dataloaders=run.data.ordered(config.split), verbose=False)
    return OwnBound(terms.results["test"], terms.examples)


def _measure(request: Request, own: OwnBound) -> Measured:
    """Score samples on all ranks, then run the estimators on rank 0; an exception ends it and is kept."""
    results: list[Result] = []
    failure: BaseException | None = None
    missing = [*(["samples"] if request.scores.fid is not None else []), *request.estimators]
    try:
        request.scores.score(request.run.model.to(request.device).eval(), request.run.data, request.device)
        leave_nothing_open()
        missing = [*request.estimators]
        for name, estimator in request.estimators.items() if is_rank_zero() else ():
            results += run_estimator(name, estimator, request)
            missing.remove(name)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if not is_rank_zero():
            raise
        failure = error
    return Measured(own, results, missing, failure)


def run_estimator(name: str, estimator: Estimator, request: Request) -> list[Result]:
    """Run one estimator on a whole split, with a progress bar."""
    device, split = request.device, request.run.data.split(request.config.split)
    whole = Batch(split.x, torch.arange(len(split.x)), split.condition)
    asked = first_examples(whole, estimator.examples)  # a file's others are not read, nor moved
    data = Batch(asked.x.to(device), asked.index, None if asked.condition is None else asked.condition.to(device))
    model = request.run.model.to(device).eval().requires_grad_(False)
    with share_bar(name) as progress:
        return estimator(model, data, progress)


def _conclude(request: Request, measured: Measured) -> None:
    """Write metrics.json and print the tables."""
    config, run, facts = request.config, request.run, request.provenance
    others = {result.name: result.terms for result in measured.results}
    trained = {"trained_on": run.checkpoint.provenance.get("data"), "samples": request.scores.entry}
    sentences = warnings.warnings(run.model, measured.own.terms, others, run.data, facts | trained)
    sentences += foreign_checkpoint(run.checkpoint)
    folder = RunFolder(config.output_dir)
    write_examples(folder.examples, _examples(request, measured, facts))
    folder.write_metrics(_metrics(request, measured, {"warnings": sentences, "provenance": facts}))
    bound, scores = measured.own.terms["bits_per_dim"], request.scores.entry
    known = warnings.above_entropy(bound, run.data, config.split)
    title = f"{run.data.title}, whole {config.split} set, {run.weights} weights of step {run.checkpoint.step}"
    console.show(
        console.bound_table(title, measured.own.terms),
        *([console.estimates_table(bound, facts, measured.results)] if measured.results else []),
        *([console.samples_listing(scores)] if scores else []),
        *([known] if known else []),
        *console.warnings_listing(sentences),
        f"written to {console.short_path(folder.metrics)}",
    )


def _examples(request: Request, measured: Measured, facts: Mapping[str, Any]) -> Examples:
    """Return the content of examples.npz: the bound and the further estimates, by example."""
    run, known = request.run, {r.name: r.values.double().cpu().numpy() for r in measured.results if r.values is not None}
    draws = {"seed": request.test.seed, "repeats": request.test.repeats}
    draws |= {r.name: cast(int, r.facts["seed"]) for r in measured.results if r.name in known}
    dims = math.prod(run.data.event_shape)
    about = description(facts["data"], request.config.split, dims, run.levels, run.seed, draws)
    return measured.own.examples._replace(about=about, estimates=known)


def _metrics(request: Request, measured: Measured, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of metrics.json."""
    metrics: dict[str, Any] = {request.config.split: as_metrics(measured.own.terms), **facts}
    if measured.results:
        metrics["estimates"] = {
            result.name: as_metrics(result.terms)
            | {"examples": result.examples, "draws": result.draws, "network_calls": result.calls, **result.facts}
            for result in measured.results
        }
    if measured.failure is not None:
        error = measured.failure
        reason = f"{error}" if isinstance(error, InvalidInput) else f"stopped: {type(error).__name__}"
        metrics["without"] = dict.fromkeys(measured.missing, "not reached") | dict.fromkeys(measured.missing[:1], reason)
    if request.scores.entry:
        metrics["samples"] = request.scores.entry | {"checkpoint_sha256": file_sha256(request.run.checkpoint.path)}
    return metrics


main = entry.evaluate
