"""``vdm-report``: ``estimators ckpt=…``, the estimator laboratory; the others have files of their own."""

import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm.auto import tqdm

from vdm.batch import Batch, first_examples
from vdm.cli import command
from vdm.cli.build import restore
from vdm.cli.command import quiet
from vdm.config.composed import instantiate_own
from vdm.errors import InvalidInput, at_least, at_most
from vdm.evaluation.estimator import diffusion
from vdm.plots.figures import growth_figure, per_step_figure
from vdm.reports import console, run, sweep
from vdm.runs.folder import RunFolder
from vdm.runs.provenance import provenance
from vdm.runs.sweeps import as_invalid_input
from vdm.studies.ladder import lineage
from vdm.studies.variance_study import FORMS, TermsOverT, VarianceStudy, sentences


def estimators(config: DictConfig) -> None:
    """Measures, draws the figures, prints the table and what it says of the chapter's "higher variance"."""
    quiet()
    sizes = config.growth or []
    at_least(2, repeats=config.repeats, batches=config.batches, **{f"growth[{i}]": T for i, T in enumerate(sizes)})
    at_most(repeats=config.repeats, batches=config.batches)
    (data, task), checkpoint = restore(config.ckpt, config.ema, trust=config.trust)
    model = diffusion(task.evaluated, "the estimator laboratory").eval().requires_grad_(True)
    split = data.split(config.split)
    batch = first_examples(Batch(split.x, torch.arange(len(split.x)), split.condition), config.examples)
    lab = VarianceStudy(model, batch, config.timesteps, config.repeats, config.seed)
    single_t = VarianceStudy(model, batch, config.timesteps, config.batches, config.seed)
    ends = [model.schedule(torch.tensor([t], dtype=torch.float64)).item() for t in (0.0, 1.0)]
    paths = {"the run's": single_t}
    paths |= {name: single_t.under(instantiate_own(node, name)(*ends)) for name, node in config.schedules.items()}

    with tqdm(total=1000, desc="whole sums", unit="‰", dynamic_ncols=True) as bar:
        steps = {}
        for i, form in enumerate(FORMS):
            steps[form] = lab.per_step(form, lambda done, i=i: bar.update(int(500 * (i + done)) - bar.n))  # type: ignore[misc]
    cases = list(product(paths, FORMS, config.times))
    single = {}
    with tqdm(total=len(cases) * config.batches, desc="one t", unit="batch", dynamic_ncols=True) as bar:
        for path, form, name in cases:
            times = instantiate_own(config.times[name], f"times.{name}")
            paths[path].fit(times, form)
            single[path, form, name] = paths[path].one_t(form, times, lambda _: bar.update())
    growth = {T: lab.growth(T) for T in tqdm(sizes, desc="growth with T", unit="T", dynamic_ncols=True)}

    own = {(form, name): value for (path, form, name), value in single.items() if path == "the run's"}
    said = sentences(steps, own, list(config.times))
    folder = RunFolder(config.output_dir)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    means = {name: s.mean.tolist() for name, s in steps.items()}
    variances = {name: s.variance.tolist() for name, s in steps.items()}
    per_step_figure(means, variances).savefig(folder.pictures / "per_step.png", dpi=120)
    curves = {label: [getattr(g, name) for g in growth.values()] for name, label in GROWTH.items()}
    if growth:
        growth_figure(list(growth), curves).savefig(folder.pictures / "growth.png", dpi=120)
    measured: dict[str, Any] = {
        "per_step": {name: {"mean": means[name], "variance": variances[name]} for name in steps},
        "whole_bound_variance": {name: s.whole for name, s in steps.items()},
        "one_t": {"/".join(case): value._asdict() for case, value in single.items()},
        "growth": {str(T): g._asdict() for T, g in growth.items()},
        "sentences": said,
    }
    facts = {**provenance(data, config.seed), "checkpoint": str(checkpoint.path), "step": checkpoint.step}
    settings = {name: config[name] for name in ("split", "ema", "timesteps", "repeats", "batches")}
    settings["examples"] = len(batch.x)
    folder.write_metrics({"estimators": measured, "provenance": {**facts, **settings}})

    rows = [(*case, f"{value.variance:.4g}", f"{value.gradient:.4g}") for case, value in single.items()]
    rows += [("the run's", name, "every t, whole bound", f"{step.whole:.4g}", "") for name, step in steps.items()]
    headings = ("schedule", "form", "t", "variance (nats²)", "gradient variance")
    table = console.Table(f"one t an example, T = {config.timesteps}, {len(batch.x)} examples", headings, rows, words=3)
    tables = [table, growth_table(growth)] if growth else [table]
    console.show(*tables, console.listing("as measured", said), console.pictures(folder.pictures))


GROWTH = {
    "denoising": "denoising (1.62)",
    "consistency": "consistency (1.46)",
    "literal": "literal (1.47), not the bound",
    "gap": "gap by formula",
    "transition_prior": "prior (1.49)",
    "prior_matching": "prior (1.62)",
}


def growth_table(growth: dict[int, TermsOverT]) -> console.Table:
    """The terms that grow with T, in nats per example."""
    rows = [(str(timesteps), *(f"{value:.3f}" for value in values)) for timesteps, values in growth.items()]
    return console.Table("over T, nats per example", ("T", *GROWTH.values()), rows, words=0)


COUNTS = dict.fromkeys(("examples", "timesteps", "repeats", "batches", "seed"), int)

REPORTS: dict[str, tuple[str, Callable[[DictConfig], None], dict[str, Any]]] = {
    "estimators": (
        "laboratory",
        estimators,
        {"ckpt": str, "split": str, "ema": bool, "growth": list[int] | None, **COUNTS}
        | dict.fromkeys(("times", "schedules"), Mapping[str, Mapping]),
    ),
    "lineage": ("lineage", lineage, {"runs": str | None}),
}
"""What there is to report on: the config, the function, and the types of the settings of each."""

FOLDERS = {"run": run.report, "sweep": sweep.report}
"""What is read from the files of a folder, with nothing to compose."""

HELP = {"--help", "-h"}

USAGE = """vdm-report run=FOLDER [output_dir=FOLDER]     one page on a run, finished or not
vdm-report sweep=FOLDER [output_dir=FOLDER]   tables and figures over the runs of a sweep
vdm-report estimators ckpt=FILE …             the estimator laboratory; estimators --help lists its settings
vdm-report lineage [runs=FOLDER] …            the models of the lineage side by side; lineage --help lists its settings"""


def on_folder(kind: str, arguments: list[str]) -> None:
    """``run=FOLDER`` or ``sweep=FOLDER``, and ``output_dir=``, which is the folder's own report/ by default."""
    given = command.words(arguments, (kind, "output_dir"), f"vdm-report {kind}=FOLDER [output_dir=FOLDER]")
    folder = Path(given[kind])
    with as_invalid_input(folder):
        FOLDERS[kind](folder, Path(given.get("output_dir", folder / "report")))


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    kind = asked.partition("=")[0]
    if asked in HELP or (kind in FOLDERS and HELP & {*sys.argv}):
        print(USAGE)
    elif kind in FOLDERS:
        try:
            on_folder(kind, sys.argv[1:])
        except InvalidInput as error:
            command.stop(str(error))
    elif asked in REPORTS:
        command.run(*REPORTS[sys.argv.pop(1)])
    else:
        command.stop("say what to report on: estimators ckpt=…, lineage, run=FOLDER, or sweep=FOLDER")
