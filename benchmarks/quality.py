"""Bits/dim for a given time of training, so that a change of the defaults can be judged at equal cost.

    python benchmarks/quality.py experiment=digits --budgets 120 300 --seeds 0 1 2
    python benchmarks/quality.py experiment=digits --budgets 60 --against parameterisation=noise --split val

The budget is CPU-seconds of training steps on one thread; on a GPU, GPU-seconds. A step is timed first; the learning rate
then falls to zero over as many steps as the budget holds, and a run that is slower than that is cut off at the budget.
Every run is a ``vdm-train``, in a folder under --folder; a finished one of the same code and data is not run again, if all
of the code was committed.

Settings given by --against (once for each) get the same budgets, seeds and draws, and their difference is taken example by
example; in continuous time along the straight line in γ for all, since the bound does not depend on the path, but the
variance of its estimate does.
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
from vdm.cli.build import build, restore
from vdm.cli.command import quiet
from vdm.config.hints import config_directory
from vdm.data import DataModule
from vdm.elbo import ContinuousTime
from vdm.evaluation import BoundEvaluation
from vdm.models import VDM
from vdm.runs.provenance import provenance
from vdm.schedules import LinearSchedule
from vdm.training.callbacks.cpu_time import CpuTime
from vdm.training.task import VariationalTask

PROBE, SKIPPED, SHARE = 24, 4, 0.97


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="settings of vdm-train, for every run")
    parser.add_argument("--against", nargs="+", action="append", default=[], help="settings of another contender")
    parser.add_argument("--budgets", type=float, nargs="+", default=[120.0], help="CPU- or GPU-seconds")
    parser.add_argument("--steps", type=int, help="steps of every run, instead of a guess from the first ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="val while settings are being chosen")
    parser.add_argument("--repeats", type=int, default=8, help="draws for each example, where runs are paired")
    parser.add_argument("--folder", type=Path, default=Path("logs/quality"))
    return parser.parse_args()


def composed(overrides: list[str]) -> tuple[DictConfig, DataModule, VariationalTask]:
    """What vdm-train would make of them."""
    with initialize_config_dir(config_directory(), version_base="1.3"):
        config = compose("train", overrides=["output_dir=unused", *overrides])
    return config, *build(config)


def seconds_a_step(overrides: list[str]) -> float:
    """CPU-seconds of a training step, after the first few."""
    config, data, task = composed(overrides)
    clocks = [CpuTime(), CpuTime()]
    settings = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0, "default_root_dir": None}
    for clock, steps in zip(clocks, (SKIPPED, PROBE), strict=True):
        trainer: pl.Trainer = instantiate(config.trainer, callbacks=[clock], max_steps=steps, **settings)
        trainer.fit(task, datamodule=data)
    return (clocks[1].used - clocks[0].used) / (PROBE - SKIPPED)


def train(folder: Path, overrides: list[str], budget: float, steps: int | None, seed: int) -> None:
    """One run, unless it is there already, of the same code and data."""
    if (folder / "metrics.json").exists():
        held, now = json.loads((folder / "metrics.json").read_text())["provenance"], provenance(composed(overrides)[1], seed)
        if any(held[name] != now[name] for name in ("vdm", "data")) or held["vdm"].endswith("dirty"):
            sys.exit(f"{folder} holds a run of other code or data ({held['vdm']}): choose another --folder, or remove it")
        return
    steps = steps or max(1, int(SHARE * budget / seconds_a_step(overrides)))
    limits = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}", f"callbacks.cpu_time.seconds={budget}"]
    program = Path(sys.executable).with_name("vdm-train")
    command = [program, f"hydra.run.dir={folder}", f"seed={seed}", *limits, *overrides]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def folder_name(*words: str) -> str:
    """Told by the settings; by their hash where they are too many for a file system."""
    name, last = (re.sub(r"[^\w.-]+", "-", text) for text in ("_".join(words), words[-1]))
    return name if len(name) < 200 else f"{name[:100]}_{sha256(name.encode()).hexdigest()[:16]}_{last}"


def straight(model: VariationalModel) -> VariationalModel:
    """The same denoiser and ends on the line in γ and with stratified t, where that is the same bound."""
    if not isinstance(model, VDM) or not isinstance(model.time, ContinuousTime):
        return model
    ends = [model.schedule(torch.tensor([t], dtype=torch.float64)) for t in (0.0, 1.0)]
    if any(gamma.numel() > 1 for gamma in ends):
        return model
    return VDM(LinearSchedule(*(gamma.item() for gamma in ends)), model.denoiser, model.likelihood, model.time)


@torch.inference_mode()
def bits(folder: Path, split: str, repeats: int) -> torch.Tensor:
    """(examples,) bits/dim of the averaged weights, the draws the same for every run."""
    (data, task), _ = restore(str(folder / "checkpoints" / "last.ckpt"), ema=True)
    model, each = straight(task.evaluated).eval(), BoundEvaluation(repeats, seed=7)
    return torch.cat([each(model, batch)[0].mean(1) for batch in data.ordered(split)])


def mean_and_error(values: torch.Tensor) -> str:
    error = f" ± {values.std() / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}"


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    asked = arguments()
    contenders = [asked.overrides, *([*asked.overrides, *other] for other in asked.against)]
    for budget in asked.budgets:
        paired, limit = [], f"{budget:g}s" + (f"_{asked.steps}_steps" if asked.steps else "")
        for overrides in contenders:
            values, folders = [], []
            for seed in asked.seeds:
                folder = asked.folder / folder_name(*overrides, limit, f"seed={seed}")
                train(folder, overrides, budget, asked.steps, seed)
                metrics = json.loads((folder / "metrics.json").read_text())
                found, facts = metrics[asked.split]["bits_per_dim"], metrics["provenance"]
                values.append(found["value"])
                folders.append(folder)
                errors = f"(mc_se {found['mc_se']:.4f}, data_se {found['data_se']:.4f})"
                seconds = facts.get("training_cpu_seconds", facts.get("training_gpu_seconds"))
                spent = f"{facts['steps']} steps, {seconds} s, {facts['vdm']}"
                print(f"  {' '.join(overrides)} seed={seed}: {found['value']:.4f} {errors}; {spent}", flush=True)
            mean = mean_and_error(torch.tensor(values, dtype=torch.float64))
            print(f"{budget:g} s, {asked.split}, {' '.join(overrides) or 'defaults'}: {mean} over seeds", flush=True)
            if asked.against:
                paired.append(torch.stack([bits(folder, asked.split, asked.repeats) for folder in folders]).mean(0))
                print(f"    minus the first, paired by example: {mean_and_error(paired[-1] - paired[0])}", flush=True)


if __name__ == "__main__":
    main()
