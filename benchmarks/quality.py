"""Measure bits/dim after a given time of training, to compare settings at equal cost.

    python benchmarks/quality.py experiment=digits --budgets 120 300 --seeds 0 1 2
    python benchmarks/quality.py experiment=digits --budgets 60 --against parameterisation=noise --split val

The budget is CPU-seconds of training steps on one thread, or GPU-seconds. A step is timed first; the learning rate then
falls to zero over the number of steps that the budget allows, and a slower run stops at the budget. Every run is a
``vdm-train`` in a folder below --folder; a finished run of the same, committed code and the same data is reused.

Each --against names the settings of another contender, with the same budgets, seeds and draws; differences are taken example
by example. In continuous time all models are evaluated along the straight line in γ: the bound does not depend on the path,
but the variance of its estimate does.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from vdm.bound import VariationalModel
from vdm.cli.command import quiet
from vdm.config.groups import config_directory
from vdm.data import DataModule
from vdm.elbo import ContinuousTime
from vdm.evaluation import BoundEvaluation
from vdm.models import VDM
from vdm.runs.load import load_run
from vdm.runs.provenance import provenance
from vdm.schedules import LinearSchedule
from vdm.training.build import build
from vdm.training.callbacks.cpu_time import CpuTime
from vdm.training.task import VariationalTask

WARM_UP, TIMED = 4, 24
"""Steps of the two probe runs, whose difference is timed."""

SHARE = 0.97
"""Fraction of the budget that the planned steps may take."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="settings of vdm-train, for every run")
    parser.add_argument("--against", nargs="+", action="append", default=[], help="settings of another contender")
    parser.add_argument("--budgets", type=float, nargs="+", default=[120.0], help="CPU- or GPU-seconds")
    parser.add_argument("--steps", type=int, help="steps of every run, instead of a number derived from the budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="val for choosing settings")
    parser.add_argument("--repeats", type=int, default=8, help="draws for each example of paired differences")
    parser.add_argument("--folder", type=Path, default=Path("logs/quality"))
    return parser.parse_args()


def composed(overrides: list[str]) -> tuple[DictConfig, DataModule, VariationalTask]:
    """Return the config, data and training task that vdm-train builds from ``overrides``."""
    with initialize_config_dir(config_directory(), version_base="1.3"):
        config = compose("train", overrides=["output_dir=unused", *overrides])
    return config, *build(config)


def seconds_a_step(overrides: list[str]) -> float:
    """Return the CPU-seconds of a training step, after ``WARM_UP`` steps."""
    config, data, task = composed(overrides)
    clocks = [CpuTime(), CpuTime()]
    settings = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0, "default_root_dir": None}
    for clock, steps in zip(clocks, (WARM_UP, TIMED), strict=True):
        trainer: pl.Trainer = instantiate(config.trainer, callbacks=[clock], max_steps=steps, **settings)
        trainer.fit(task, datamodule=data)
    return (clocks[1].used - clocks[0].used) / (TIMED - WARM_UP)


def train(folder: Path, overrides: list[str], budget: float, steps: int | None, seed: int) -> None:
    """Train in ``folder``, unless it holds a finished run of the same code and data."""
    if (folder / "metrics.json").exists():
        before, now = (
            json.loads((folder / "metrics.json").read_text())["provenance"],
            provenance(composed(overrides)[1], seed),
        )
        if any(before[name] != now[name] for name in ("vdm", "data")) or before["vdm"].endswith("dirty"):
            sys.exit(f"{folder} holds a run of other code or data ({before['vdm']}): choose another --folder, or remove it")
        return
    steps = steps or max(1, int(SHARE * budget / seconds_a_step(overrides)))
    limits = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}", f"callbacks.cpu_time.seconds={budget}"]
    program = Path(sys.executable).with_name("vdm-train")
    command = [program, f"hydra.run.dir={folder}", f"seed={seed}", *limits, *overrides]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def folder_name(*words: str) -> str:
    """Return a folder's name from the settings, or from their hash if it would be too long for a file system."""
    name, last = (re.sub(r"[^\w.-]+", "-", text) for text in ("_".join(words), words[-1]))
    return name if len(name) < 200 else f"{name[:100]}_{sha256(name.encode()).hexdigest()[:16]}_{last}"


def with_linear_schedule(model: VariationalModel) -> VariationalModel:
    """Return the model with a linear schedule between the same ends and stratified t, if its bound stays the same."""
    if not isinstance(model, VDM) or not isinstance(model.time, ContinuousTime):
        return model
    ends = [model.schedule(torch.tensor([t], dtype=torch.float64)) for t in (0.0, 1.0)]
    if any(gamma.numel() > 1 for gamma in ends):
        return model
    return VDM(LinearSchedule(*(gamma.item() for gamma in ends)), model.denoiser, model.likelihood, model.time)


@torch.inference_mode()
def bits_per_dim(folder: Path, split: str, repeats: int) -> torch.Tensor:
    """Return the bits/dim of each example under the averaged weights, with the same draws for every run."""
    run = load_run(str(folder / "checkpoints" / "last.ckpt"), ema=True)
    model, evaluate = with_linear_schedule(run.model).eval(), BoundEvaluation(repeats, seed=7)
    return torch.cat([evaluate(model, batch)[0].mean(1) for batch in run.data.ordered(split)])


def mean_and_error(values: torch.Tensor) -> str:
    error = f" ± {values.std() / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}"


def result(folder: Path, label: str, split: str) -> float:
    """Print the result of a finished run, and return its bits/dim."""
    metrics = json.loads((folder / "metrics.json").read_text())
    bound, facts = metrics[split]["bits_per_dim"], metrics["provenance"]
    seconds = facts.get("training_cpu_seconds", facts.get("training_gpu_seconds"))
    errors = f"(mc_se {bound['mc_se']:.4f}, data_se {bound['data_se']:.4f})"
    print(f"  {label}: {bound['value']:.4f} {errors}; {facts['steps']} steps, {seconds} s, {facts['vdm']}", flush=True)
    return bound["value"]


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    options = arguments()
    contenders = [options.overrides, *([*options.overrides, *other] for other in options.against)]
    for budget in options.budgets:
        paired, limit = [], f"{budget:g}s" + (f"_{options.steps}_steps" if options.steps else "")
        for overrides in contenders:
            values, folders = [], []
            for seed in options.seeds:
                folders.append(options.folder / folder_name(*overrides, limit, f"seed={seed}"))
                train(folders[-1], overrides, budget, options.steps, seed)
                values.append(result(folders[-1], f"{' '.join(overrides)} seed={seed}", options.split))
            mean = mean_and_error(torch.tensor(values, dtype=torch.float64))
            print(f"{budget:g} s, {options.split}, {' '.join(overrides) or 'defaults'}: {mean} over seeds", flush=True)
            if options.against:
                per_seed = [bits_per_dim(folder, options.split, options.repeats) for folder in folders]
                paired.append(torch.stack(per_seed).mean(0))
                print(f"    minus the first, paired by example: {mean_and_error(paired[-1] - paired[0])}", flush=True)


if __name__ == "__main__":
    main()
