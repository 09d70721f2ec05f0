"""Soak test of a sweep of many tiny jobs, some of which fail: every job is reported, and no results are mixed up.

    python benchmarks/soak/sweep.py folder=logs/soak/sweep jobs=200

Half of the jobs repeat the settings of another job but for the period of a callback, and must have exactly the same result.
Every tenth setting has a learning rate at which the loss is not finite, and must be reported as failed.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from steps import TINY, TRAIN

from vdm.runs.sweeps import Run, read_sweep

DIVERGING = "1e+30"
"""A learning rate at which the loss is not finite."""

SHORT = (
    "trainer.max_steps=3",
    "trainer.val_check_interval=3",
    "callbacks.sample_grid.every=100",
    "trainer.gradient_clip_val=null",
)


def defects(runs: list[Run], jobs: int) -> list[str]:
    """Return a line for each run that is missing, in a wrong state, or different from its twin."""
    lines, twins = [], {}
    if len(runs) != jobs:
        lines.append(f"{len(runs)} runs of {jobs}")
    for run in runs:
        fails = run.settings["optimizer.lr"] == DIVERGING
        if run.state != ("failed" if fails else "finished"):
            lines.append(f"{run.folder and run.folder.root}: {run.state}, {run.note}")
        if run.state == "finished" and run.folder is not None:
            key = (run.settings["seed"], run.settings["optimizer.lr"])
            if twins.setdefault(key, run.metrics["test"]) != run.metrics["test"]:
                lines.append(f"{run.folder.root}: not the result of its twin")
    return lines


def main() -> None:
    arguments = dict(word.split("=", 1) for word in sys.argv[1:])
    folder, jobs = Path(arguments["folder"]), int(arguments["jobs"])
    seeds, rates = range(jobs // 20), [*(f"{i}e-3" for i in range(1, 10)), DIVERGING]
    swept = {"seed": seeds, "optimizer.lr": rates, "callbacks.bound_terms.every": (7, 8)}
    words = [f"{name}={','.join(map(str, values))}" for name, values in swept.items()]
    command = [TRAIN, "-m", *TINY[:-1], *SHORT, *words, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = read_sweep(folder)
    lines = defects(runs, 20 * len(seeds))
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
    print(f"sweep: {len(runs)} jobs, {states}; {len(lines)} defects", *lines[:10], sep="\n  ")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
