"""``vdm-report estimators ckpt=…``: the variance study of one trained model, as figures, a table and metrics.json."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from vdm.bars import counting_bar, share_bar
from vdm.batch import Batch, first_examples
from vdm.config.composed import instantiate_own
from vdm.errors import at_least, at_most
from vdm.evaluation.estimator import diffusion
from vdm.plots.figures import growth_figure, per_step_figure
from vdm.reports import console
from vdm.reports.table import Table
from vdm.runs.folder import RunFolder
from vdm.runs.load import LoadedRun, load_run
from vdm.runs.provenance import provenance
from vdm.studies.variance_study import FORMS, OneT, PerStep, TermsAtT, VarianceStudy, sentences

OWN_SCHEDULE = "the run's"

TERMS_AT_T = {
    "denoising": "denoising (1.62)",
    "consistency": "consistency (1.46)",
    "literal": "literal (1.47), not the bound",
    "gap": "gap by formula",
    "transition_prior": "prior (1.49)",
    "prior_matching": "prior (1.62)",
}
"""Labels of the fields of ``TermsAtT``."""

HEADINGS = ("schedule", "form", "t", "variance (nats²)", "gradient variance")


class Measurements(NamedTuple):
    """Measurements by form of the bound; by schedule, form and sampler of t; and by T."""

    steps: dict[str, PerStep]
    one_t: dict[tuple[str, str, str], OneT]
    terms: dict[int, TermsAtT]
    sentences: list[str]


def estimators(config: DictConfig) -> None:
    """Measure the variances, write the figures and metrics.json, and print the tables."""
    sizes = config.growth or []
    at_least(2, repeats=config.repeats, batches=config.batches, **{f"growth[{i}]": T for i, T in enumerate(sizes)})
    at_most(repeats=config.repeats, batches=config.batches)
    run = load_run(config.ckpt, config.ema, trust=config.trust)
    split = run.data.split(config.split)
    examples = first_examples(Batch(split.x, torch.arange(len(split.x)), split.condition), config.examples)
    measured = _measure(config, run, examples)
    folder = RunFolder(config.output_dir)
    _write_figures(measured, folder)
    facts = {**provenance(run.data, config.seed), "checkpoint": str(run.checkpoint.path), "step": run.checkpoint.step}
    settings = {name: config[name] for name in ("split", "ema", "timesteps", "repeats", "batches")}
    facts |= {**settings, "examples": len(examples.x)}
    folder.write_metrics({"estimators": _numbers(measured), "provenance": facts})
    title = f"one t an example, T = {config.timesteps}, {len(examples.x)} examples"
    lines = console.listing("measured", measured.sentences), console.pictures_listing(folder.pictures)
    console.show(_variance_table(measured, title), *_term_tables(measured), *lines)


def _measure(config: DictConfig, run: LoadedRun, examples: Batch) -> Measurements:
    model = diffusion(run.model, "the variance study").requires_grad_(True)
    study = VarianceStudy(model, examples, config.timesteps, config.repeats, config.seed)
    steps = {}
    with share_bar("whole sums") as progress:
        for i, form in enumerate(FORMS):
            steps[form] = study.per_step(form, lambda done, i=i: progress((i + done) / len(FORMS)))  # type: ignore[misc]
    one_t = _one_t(config, VarianceStudy(model, examples, config.timesteps, config.batches, config.seed))
    growth = list(config.growth or [])
    terms = {T: study.terms_at(T) for T in counting_bar("growth with T", len(growth), "T", iterable=growth)}
    own = {(form, name): value for (schedule, form, name), value in one_t.items() if schedule == OWN_SCHEDULE}
    return Measurements(steps, one_t, terms, sentences(steps, own, list(config.times)))


def _one_t(config: DictConfig, study: VarianceStudy) -> dict[tuple[str, str, str], OneT]:
    """Measure the one-t estimate for every schedule, form and sampler of t."""
    schedule = study.model.schedule
    ends = [schedule(torch.tensor([t], dtype=torch.float64)).item() for t in (0.0, 1.0)]
    studies = {OWN_SCHEDULE: study}
    studies |= {name: study.with_schedule(instantiate_own(node, name)(*ends)) for name, node in config.schedules.items()}
    cases, estimates = list(product(studies, FORMS, config.times)), {}
    with counting_bar("one t", len(cases) * config.batches, "batch") as bar:
        for label, form, name in cases:
            times = instantiate_own(config.times[name], f"times.{name}")
            studies[label].fit(times, form)
            estimates[label, form, name] = studies[label].one_t(form, times, lambda _: bar.update())
    return estimates


def _write_figures(measured: Measurements, folder: RunFolder) -> None:
    folder.pictures.mkdir(parents=True, exist_ok=True)
    means = {form: step.mean.tolist() for form, step in measured.steps.items()}
    variances = {form: step.variance.tolist() for form, step in measured.steps.items()}
    per_step_figure(means, variances).savefig(folder.pictures / "per_step.png", dpi=120)
    if measured.terms:
        curves = {label: [getattr(terms, name) for terms in measured.terms.values()] for name, label in TERMS_AT_T.items()}
        growth_figure(list(measured.terms), curves).savefig(folder.pictures / "growth.png", dpi=120)


def _numbers(measured: Measurements) -> dict[str, Any]:
    """Return the ``estimators`` entry of metrics.json."""
    steps = measured.steps.items()
    return {
        "per_step": {form: {"mean": step.mean.tolist(), "variance": step.variance.tolist()} for form, step in steps},
        "whole_bound_variance": {form: step.whole for form, step in steps},
        "one_t": {"/".join(case): value._asdict() for case, value in measured.one_t.items()},
        "growth": {str(T): terms._asdict() for T, terms in measured.terms.items()},
        "sentences": measured.sentences,
    }


def _variance_table(measured: Measurements, title: str) -> Table:
    rows: list[Sequence[str]] = [
        (*case, f"{value.variance:.4g}", f"{value.gradient:.4g}") for case, value in measured.one_t.items()
    ]
    rows += [(OWN_SCHEDULE, form, "every t, whole bound", f"{step.whole:.4g}", "") for form, step in measured.steps.items()]
    return Table(HEADINGS, rows, title, text_columns=3)


def _term_tables(measured: Measurements) -> list[Table]:
    """Return the table of the terms that depend on T, or an empty list without ``growth``."""
    rows = [(str(timesteps), *(f"{value:.3f}" for value in terms)) for timesteps, terms in measured.terms.items()]
    return [Table(("T", *TERMS_AT_T.values()), rows, "over T, nats per example", text_columns=0)] if rows else []
