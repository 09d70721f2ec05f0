"""A long training of a tiny network: memory stays flat, and steps do not slow down.

    python benchmarks/soak/steps.py folder=logs/soak/steps steps=200000

Runs ``vdm-train`` as a user would, with validations, checkpoints and pictures, and reads the process's resident memory and
CPU time from /proc while it runs, into a csv file beside the run's folder. The first tenth is warm-up. Fails where the last
fifth of the rest takes more than 10 % longer for a step than the first fifth, or its mean memory is more than 16 MiB + 2 %
above. The machine has to be quiet: a neighbour on the same core makes steps slower.
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
    """The process at one moment: its last logged step, CPU-seconds and resident MiB."""

    step: int
    seconds: float
    memory: float


def sample(pid: int, folder: RunFolder) -> Sample:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    steps = [int(row["step"]) for row in read_rows(folder.curves)[1]]
    return Sample(max(steps, default=0), (int(fields[11]) + int(fields[12])) / 100, pages * 4096 / 2**20)


def judged(samples: list[Sample], steps: int) -> tuple[bool, str]:
    """Whether time and memory stayed as they were, and the sentence that says so."""
    kept = [one for one in samples if 0.1 * steps <= one.step <= steps]
    fifth = len(kept) // 5
    if fifth < 3:
        return False, f"only {len(kept)} samples after the warm-up: run longer"
    ends = (kept[: fifth + 1], kept[-fifth - 1 :])
    speeds = [1000 * (part[-1].seconds - part[0].seconds) / max(1, part[-1].step - part[0].step) for part in ends]
    memory = [mean(one.memory for one in part) for part in ends]
    good = speeds[1] <= 1.1 * speeds[0] and memory[1] <= 1.02 * memory[0] + 16
    told = f"{speeds[0]:.2f} → {speeds[1]:.2f} CPU-ms a step, {memory[0]:.0f} → {memory[1]:.0f} MiB"
    return good, f"{told}, over {kept[-1].step:,} steps"


def main() -> None:
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    folder, steps = RunFolder(given["folder"]), int(given["steps"])
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
    lines = ["step,cpu_seconds,resident_mib", *(f"{one.step},{one.seconds},{one.memory:.1f}" for one in samples)]
    folder.root.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    good, told = judged(samples, steps)
    whole = process.wait() == 0 and folder.metrics.exists()
    print(f"steps: {told}; {'finished' if whole else 'did not finish'}")
    sys.exit(0 if good and whole else 1)


if __name__ == "__main__":
    main()
