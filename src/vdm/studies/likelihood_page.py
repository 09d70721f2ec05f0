"""``vdm-report likelihood ckpt=…``: every estimate of −log p(x) of one model, and the orderings that must hold."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from vdm.bars import share_bar
from vdm.batch import Batch, first_examples
from vdm.config.composed import to_plain
from vdm.estimate import Estimate
from vdm.evaluation.estimator import diffusion
from vdm.evaluation.orderings import Check, violations
from vdm.evaluation.summary import summarise
from vdm.plots.comparison import Interval, intervals_figure
from vdm.reports import console
from vdm.reports.page import Page, Picture, Section, write_page
from vdm.reports.table import Table
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder, as_metrics
from vdm.runs.load import LoadedRun, load_run
from vdm.runs.provenance import provenance
from vdm.runs.reading import reading
from vdm.studies.likelihood import LikelihoodStudy, Settings
from vdm.terms import bits_per_dim

NOTE = (
    "All on the same examples, bits/dim. mc_se: over the draws, the examples fixed, which is what orderings are about; "
    "data_se: over the examples. Bounds and importance-weighted bounds are on the variational model; the flow is another "
    "density with the same network, and no order holds between the two unless the denoiser is ideal."
)

CHECKS_NOTE = (
    "excess: by how much the claim fails, in bits/dim, negative where it holds with room; se: of the paired difference. "
    "open: chance explains the excess. That the bound improves with T is a law for a denoiser whose error grows with noise."
)

CODELENGTHS = {"net": "codelength, net", "file": "codelength, whole file"}
"""Entries of a compress.json that are shown, with their labels."""


def likelihood(config: DictConfig) -> None:
    """Estimate, check the orderings, write the page and metrics.json, and print the tables."""
    run = load_run(config.ckpt, config.ema, trust=config.trust)
    settings = Settings(**{name: to_plain(config)[name] for name in Settings._fields})
    model = diffusion(run.model, "the likelihood page").eval().requires_grad_(False)
    study = LikelihoodStudy(model, _examples(config, run), settings)
    with share_bar("likelihood") as progress:
        found = study.run(progress, _entropy(run, config, len(study.data.x)))
    estimates = {
        label: summarise(torch.from_numpy(values), independent=not label.startswith("bound") or model.independent_draws)
        for label, values in found.values.items()
    }
    counts = {label: values.shape[1] for label, values in found.values.items()}
    codes = codelengths(run)
    folder, rows = RunFolder(config.output_dir), _table(run, config, estimates, counts, codes)
    page = _page(rows, found.checks, {label: (each.value, *each.interval()) for label, each in estimates.items()} | codes)
    written = write_page(folder.root, page)
    facts = {**provenance(run.data, run.seed), "checkpoint": str(run.checkpoint.path), "step": run.checkpoint.step}
    checks = [{**check._asdict(), "verdict": check.verdict} for check in found.checks]
    content = {"likelihood": as_metrics(estimates), "codelength": {k: v[0] for k, v in codes.items()}, "checks": checks}
    facts |= {"settings": settings._asdict(), "split": config.split, "examples": len(study.data.x)}
    folder.write_metrics({**content, "warnings": violations(found.checks), "provenance": facts})
    console.show(
        rows,
        checks_table(found.checks),
        *console.warnings_listing(violations(found.checks)),
        console.listing("written", map(console.short_path, written)),
    )


def _examples(config: DictConfig, run: LoadedRun) -> Batch:
    device = _device(config.accelerator)
    run.model.to(device)
    split = run.data.split(config.split)
    condition = None if split.condition is None else split.condition.to(device)
    return first_examples(Batch(split.x.to(device), torch.arange(len(split.x)), condition), config.examples)


def _entropy(run: LoadedRun, config: DictConfig, n: int) -> float | None:
    """Return the mean of −log p of the examples in bits/dim, where the data's density is known."""
    log_prob = run.data.source.log_prob(run.data.split(config.split).x[:n])
    return None if log_prob is None else bits_per_dim(-log_prob, run.data.split(config.split).x[0].numel()).mean().item()


def codelengths(run: LoadedRun) -> dict[str, Interval]:
    """Return the codelengths in bits/dim of a compress.json of this checkpoint in the run's folder; empty without one."""
    root = run.checkpoint.path.resolve().parents[1]
    for path in sorted([*root.glob("compress.json"), *root.glob("*/compress.json")]):
        with reading(path):
            content: Mapping[str, Any] = json.loads(path.read_text())
            if content.get("checkpoint_sha256") in (None, file_sha256(run.checkpoint.path)):
                entries, n = content["bits_per_dim"], content.get("images", "?")
                known = {name: float(entries[name]["value"]) for name in CODELENGTHS if name in entries}
                return {f"{CODELENGTHS[name]}, {n} images": (value,) * 3 for name, value in known.items()}
    return {}


def _table(
    run: LoadedRun,
    config: DictConfig,
    estimates: Mapping[str, Estimate],
    counts: Mapping[str, int],
    codes: Mapping[str, Interval],
) -> Table:
    rows = [(label, *each.shown(), str(counts[label])) for label, each in estimates.items()]
    rows += [(label, f"{value:.4f}", "", "", "") for label, (value, *_) in codes.items()]
    examples = f"{'all' if config.examples is None else config.examples} {config.split} examples"
    title = f"{run.data.title}, {examples}, {run.weights} weights of step {run.checkpoint.step}"
    return Table(("estimate of −log p(x)", "bits/dim", "mc_se", "data_se", "draws"), rows, title, NOTE)


def checks_table(checks: list[Check]) -> Table:
    """Return a row for each ordering, with its verdict."""
    rows = [(check.claim, f"{check.excess:+.4f}", f"{check.se:.4f}", check.verdict) for check in checks]
    return Table(("ordering", "excess", "se", "verdict"), rows, "orderings that must hold", CHECKS_NOTE)


def _page(table: Table, checks: list[Check], intervals: Mapping[str, Interval]) -> Page:
    figure = intervals_figure(intervals, "estimates of −log p(x)", "bits/dim")
    picture = Picture.of("likelihood", "95 % intervals over the draws, the examples fixed", figure)
    broken = sum(check.violated for check in checks)
    lead = f"{broken} of {len(checks)} orderings violated" if broken else f"none of {len(checks)} orderings is violated"
    orderings = Section("Orderings", CHECKS_NOTE, [checks_table(checks)])
    sections = [Section("Estimates", table.caption, [table], [picture]), orderings]
    return Page(f"likelihood: {table.title}", sections, "failed" if broken else "finished", lead)


def _device(accelerator: str) -> torch.device:
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
