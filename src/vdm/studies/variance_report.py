"""``vdm-report estimators ckpt=…``: the variance study of one trained model, as figures, a table and metrics.json."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from tqdm.auto import tqdm

from vdm.batch import Batch, first_examples
from vdm.config.composed import instantiate_own
from vdm.errors import at_least, at_most
from vdm.evaluation.estimator import diffusion
from vdm.plots.studies import growth_figure, per_step_figure
from vdm.reports import console
from vdm.runs.folder import RunFolder
from vdm.runs.load import LoadedRun, load_run
from vdm.runs.provenance import provenance
from vdm.studies.variance_study import FORMS, OneT, PerStep, TermsOverT, VarianceStudy, sentences

OWN_SCHEDULE = "the run's"

OVER_T = {
    "denoising": "denoising (1.62)",
    "consistency": "consistency (1.46)",
    "literal": "literal (1.47), not the bound",
    "gap": "gap by formula",
    "transition_prior": "prior (1.49)",
    "prior_matching": "prior (1.62)",
}
"""Labels of the fields of ``TermsOverT``."""

HEADINGS = ("schedule", "form", "t", "variance (nats²)", "gradient variance")


class Measured(NamedTuple):
    """The measurements of one study.

    steps: by form of the bound. one_t: by schedule, form and sampler of t. over_t: by T.
    """

    steps: dict[str, PerStep]
    one_t: dict[tuple[str, str, str], OneT]
    over_t: dict[int, TermsOverT]
    sentences: list[str]


def estimators(config: DictConfig) -> None:
    """Measure, draw the figures, and print the table and what it says of the forms' variances."""
    sizes = config.growth or []
    at_least(2, repeats=config.repeats, batches=config.batches, **{f"growth[{i}]": T for i, T in enumerate(sizes)})
    at_most(repeats=config.repeats, batches=config.batches)
    run = load_run(config.ckpt, config.ema, trust=config.trust)
    split = run.data.split(config.split)
    examples = first_examples(Batch(split.x, torch.arange(len(split.x)), split.condition), config.examples)
    measured = _measure(config, run, examples)
    folder = RunFolder(config.output_dir)
    _write(config, run, measured, folder, len(examples.x))
    tables: list[object] = [_variance_table(config, measured, len(examples.x))]
    if measured.over_t:
        tables.append(_over_t_table(measured.over_t))
    console.show(*tables, console.listing("as measured", measured.sentences), console.pictures(folder.pictures))


def _measure(config: DictConfig, run: LoadedRun, examples: Batch) -> Measured:
    model = diffusion(run.model, "the variance study").requires_grad_(True)
    whole = VarianceStudy(model, examples, config.timesteps, config.repeats, config.seed)
    steps = {}
    with tqdm(total=1000, desc="whole sums", unit="‰", dynamic_ncols=True) as bar:
        for i, form in enumerate(FORMS):
            steps[form] = whole.per_step(form, lambda done, i=i: bar.update(int(500 * (i + done)) - bar.n))  # type: ignore[misc]
    one_t = _one_t(config, VarianceStudy(model, examples, config.timesteps, config.batches, config.seed))
    over_t = {T: whole.growth(T) for T in tqdm(config.growth or [], desc="growth with T", unit="T", dynamic_ncols=True)}
    own = {(form, name): value for (schedule, form, name), value in one_t.items() if schedule == OWN_SCHEDULE}
    return Measured(steps, one_t, over_t, sentences(steps, own, list(config.times)))


def _one_t(config: DictConfig, study: VarianceStudy) -> dict[tuple[str, str, str], OneT]:
    """Measure the one-t estimate for every schedule, form and sampler of t."""
    schedule = study.model.schedule
    ends = [schedule(torch.tensor([t], dtype=torch.float64)).item() for t in (0.0, 1.0)]
    studies = {OWN_SCHEDULE: study}
    studies |= {name: study.under(instantiate_own(node, name)(*ends)) for name, node in config.schedules.items()}
    cases, found = list(product(studies, FORMS, config.times)), {}
    with tqdm(total=len(cases) * config.batches, desc="one t", unit="batch", dynamic_ncols=True) as bar:
        for label, form, name in cases:
            times = instantiate_own(config.times[name], f"times.{name}")
            studies[label].fit(times, form)
            found[label, form, name] = studies[label].one_t(form, times, lambda _: bar.update())
    return found


def _write(config: DictConfig, run: LoadedRun, measured: Measured, folder: RunFolder, examples: int) -> None:
    """Write the figures and metrics.json."""
    folder.pictures.mkdir(parents=True, exist_ok=True)
    means = {name: step.mean.tolist() for name, step in measured.steps.items()}
    variances = {name: step.variance.tolist() for name, step in measured.steps.items()}
    per_step_figure(means, variances).savefig(folder.pictures / "per_step.png", dpi=120)
    if measured.over_t:
        curves = {label: [getattr(g, name) for g in measured.over_t.values()] for name, label in OVER_T.items()}
        growth_figure(list(measured.over_t), curves).savefig(folder.pictures / "growth.png", dpi=120)
    numbers: dict[str, Any] = {
        "per_step": {name: {"mean": means[name], "variance": variances[name]} for name in measured.steps},
        "whole_bound_variance": {name: step.whole for name, step in measured.steps.items()},
        "one_t": {"/".join(case): value._asdict() for case, value in measured.one_t.items()},
        "growth": {str(T): g._asdict() for T, g in measured.over_t.items()},
        "sentences": measured.sentences,
    }
    facts = {**provenance(run.data, config.seed), "checkpoint": str(run.checkpoint.path), "step": run.checkpoint.step}
    settings = {name: config[name] for name in ("split", "ema", "timesteps", "repeats", "batches")}
    folder.write_metrics({"estimators": numbers, "provenance": {**facts, **settings, "examples": examples}})


def _variance_table(config: DictConfig, measured: Measured, examples: int) -> console.Table:
    rows: list[Sequence[str]] = [
        (*case, f"{value.variance:.4g}", f"{value.gradient:.4g}") for case, value in measured.one_t.items()
    ]
    rows += [(OWN_SCHEDULE, name, "every t, whole bound", f"{step.whole:.4g}", "") for name, step in measured.steps.items()]
    title = f"one t an example, T = {config.timesteps}, {examples} examples"
    return console.Table(title, HEADINGS, rows, words=3)


def _over_t_table(over_t: Mapping[int, TermsOverT]) -> console.Table:
    """Return the terms that grow with T, in nats per example."""
    rows = [(str(timesteps), *(f"{value:.3f}" for value in values)) for timesteps, values in over_t.items()]
    return console.Table("over T, nats per example", ("T", *OVER_T.values()), rows, words=0)
