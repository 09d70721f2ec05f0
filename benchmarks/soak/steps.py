"""Soak test of one long training: memory stays constant, and steps do not slow down.

    python benchmarks/soak/steps.py folder=logs/soak/steps steps=200000

Runs ``vdm-train`` on a tiny network with validations, checkpoints and pictures, and records the resident memory and CPU time
of the process from /proc in a CSV file beside the run's folder. The first tenth is warm-up. The test fails if a step of the
last fifth of the rest takes more than 10 % longer than one of the first fifth, or if the mean memory is more than 16 MiB +
2 % higher. Use an idle machine: other load on the same core makes steps slower.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from vdm.runs.folder import RunFolder
from vdm.runs.tables import read_rows

TINY = (
    "experiment=toy",
    "trainer.accelerator=cpu",
    "model.denoiser.network.hidden=8",
    "model.denoiser.network.blocks=1",
    "data.batch_size=16",
    "data.sizes={train: 2000, val: 200, test: 200}",
    "learning_rate=constant",
    "model.sampling.steps=4",
    "validation.repeats=2",
    "test.repeats=8",
    "callbacks.bound_terms.every=500",
)

TRAIN = str(Path(sys.executable).with_name("vdm-train"))


class Sample(NamedTuple):
    """State of the process at one time: last logged step, CPU-seconds and resident MiB."""

    step: int
    seconds: float
    memory: float


def sample(pid: int, folder: RunFolder) -> Sample:
    """Return the current state of process ``pid``, which trains in ``folder``."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    steps = [int(row["step"]) for row in read_rows(folder.curves)[1]]
    return Sample(max(steps, default=0), (int(fields[11]) + int(fields[12])) / 100, pages * 4096 / 2**20)


def verdict(samples: list[Sample], steps: int) -> tuple[bool, str]:
    """Return whether time and memory stayed constant, and the numbers as text."""
    kept = [each for each in samples if 0.1 * steps <= each.step <= steps]
    fifth = len(kept) // 5
    if fifth < 3:
        return False, f"only {len(kept)} samples after the warm-up: run longer"
    ends = (kept[: fifth + 1], kept[-fifth - 1 :])
    speeds = [1000 * (part[-1].seconds - part[0].seconds) / max(1, part[-1].step - part[0].step) for part in ends]
    memory = [mean(each.memory for each in part) for part in ends]
    good = speeds[1] <= 1.1 * speeds[0] and memory[1] <= 1.02 * memory[0] + 16
    numbers = f"{speeds[0]:.2f} → {speeds[1]:.2f} CPU-ms a step, {memory[0]:.0f} → {memory[1]:.0f} MiB"
    return good, f"{numbers}, over {kept[-1].step:,} steps"


def main() -> None:
    arguments = dict(word.split("=", 1) for word in sys.argv[1:])
    folder, steps = RunFolder(arguments["folder"]), int(arguments["steps"])
    every = max(10, steps // 50)
    words = [*TINY, f"trainer.max_steps={steps}", f"trainer.val_check_interval={every}", f"callbacks.last.every={every}"]
    command = [TRAIN, *words, f"hydra.run.dir={folder.root}"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=one_thread)
    samples: list[Sample] = []
    while process.poll() is None:
        try:
            now = sample(process.pid, folder)
        except (FileNotFoundError, ProcessLookupError):
            break
        if now.step and (not samples or now.step > samples[-1].step):
            samples.append(now)
        time.sleep(1)
    lines = ["step,cpu_seconds,resident_mib", *(f"{each.step},{each.seconds},{each.memory:.1f}" for each in samples)]
    folder.root.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    good, numbers = verdict(samples, steps)
    finished = process.wait() == 0 and folder.metrics.exists()
    print(f"steps: {numbers}; {'finished' if finished else 'did not finish'}")
    sys.exit(0 if good and finished else 1)


if __name__ == "__main__":
    main()
