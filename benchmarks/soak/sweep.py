"""A sweep of many tiny jobs, some of which fail: every one is accounted for, and no result is another job's.

    python benchmarks/soak/sweep.py folder=logs/soak/sweep jobs=200

Half of the jobs repeat a setting under another name, so each result has a twin that must equal it to the last digit.
Every tenth setting has a learning rate at which the loss is not finite, and must be reported as failed.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from steps import TINY, TRAIN

from vdm.runs.sweeps import Run, read_sweep

LOUD = "1e+30"
SHORT = (
    "trainer.max_steps=3",
    "trainer.val_check_interval=3",
    "callbacks.sample_grid.every=100",
    "trainer.gradient_clip_val=null",
)


def wrong(runs: list[Run], jobs: int) -> list[str]:
    """What is not as it must be."""
    found, twins = [], {}
    if len(runs) != jobs:
        found.append(f"{len(runs)} runs of {jobs}")
    for run in runs:
        fails = run.settings["optimizer.lr"] == LOUD
        if run.state != ("failed" if fails else "finished"):
            found.append(f"{run.folder and run.folder.root}: {run.state}, {run.note}")
        if run.state == "finished" and run.folder is not None:
            test = json.loads(run.folder.metrics.read_text())["test"]
            key = (run.settings["seed"], run.settings["optimizer.lr"])
            if twins.setdefault(key, test) != test:
                found.append(f"{run.folder.root}: not the result of its twin")
    return found


def main() -> None:
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    folder, jobs = Path(given["folder"]), int(given["jobs"])
    seeds, rates = range(jobs // 20), [*(f"{i}e-3" for i in range(1, 10)), LOUD]
    swept = {"seed": seeds, "optimizer.lr": rates, "callbacks.bound_terms.every": (7, 8)}
    words = [f"{name}={','.join(map(str, values))}" for name, values in swept.items()]
    command = [TRAIN, "-m", *TINY[:-1], *SHORT, *words, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = read_sweep(folder)
    found = wrong(runs, 20 * len(seeds))
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
    print(f"sweep: {len(runs)} jobs, {states}; {len(found)} not as they must be", *found[:10], sep="\n  ")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
