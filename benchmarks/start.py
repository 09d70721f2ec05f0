"""Measure the seconds from the start of ``vdm-train`` to its first word, and to its first training step on random images.

    python benchmarks/start.py                                   # three starts on the same files
    python benchmarks/start.py repeats=1 data.workers=2          # any override of vdm-train

50,000 + 10,000 images; wall-clock and CPU time by stage: Python and the imports; config, data, checks and hashes, model and
Trainer; the first batch; the first step of a small network (64 channels, 1 block, 16 images). Compiling is not included.

First the CPU-seconds of what a command says before it imports torch, as ratios to ``import torch`` in the same round
(``words=1``: these alone).
"""

import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np

START_TIME = "VDM_BENCHMARK_START_TIME"
"""Environment variable with the time at which a process was started."""

SMALL = (
    "experiment=cifar10",
    "data.md5=null",
    "model.denoiser.network.channels=64",
    "model.denoiser.network.blocks=1",
    "data.batch_size=16",
    "trainer.accelerator=cpu",
    "+callbacks.clock._target_=start.Clock",
)
WORDS = ("--version", "--help", "--cfg job", "lr=0.1", "schedule=kosine", "--colour", "+colour=red")
"""Arguments of vdm-train that it answers before it imports torch."""

STAGES = ("imports", "data and model", "first batch", "first step")


class Clock(pl.Callback):
    """Print a mark at the end of each stage, and end the process after one step."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        mark()

    def on_train_batch_start(self, *_: object) -> None:
        mark()

    def on_train_batch_end(self, *_: object) -> None:
        mark()
        os._exit(0)


def mark() -> None:
    """Print the wall-clock seconds since the start of the process, and its CPU-seconds."""
    print("mark", time.time() - float(os.environ[START_TIME]), time.process_time(), flush=True)


def write_files(root: Path) -> None:
    """Write six files of 10,000 random images each."""
    folder, draw = root / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        content = {b"data": draw.integers(0, 256, (10_000, 3072), dtype=np.uint8), b"labels": [0] * 10_000}
        (folder / name).write_bytes(pickle.dumps(content))


def start(code: str, environment: dict[str, str], overrides: list[str]) -> list[list[float]]:
    """Run ``code`` in a new Python and return its marks: (wall, CPU) each."""
    environment = {**environment, START_TIME: str(time.time())}
    done = subprocess.run([sys.executable, "-c", code, *overrides], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [[float(word) for word in line.split()[1:]] for line in done.stdout.splitlines() if line.startswith("mark ")]


def cpu_seconds(*command: str) -> float:
    """Run Python on ``command`` to its end, and return the CPU-seconds that it took."""
    before = os.times()
    subprocess.run([sys.executable, *command], capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def first_words(repeats: int) -> None:
    """Print the CPU-seconds of each first word, and its ratio to ``import torch`` in the same round."""
    call, rounds = "from vdm.cli.entry import train; train()", []
    for _ in range(repeats + 1):  # the first one compiles and reads from disk
        torch_s = cpu_seconds("-c", "import torch")
        rounds.append([torch_s, *(cpu_seconds("-c", call, *words.split()) for words in WORDS)])
    print(f"{'vdm-train …':<20}{'CPU, s':>10}{'of torch':>10}   (medians of {repeats})")
    for words, seconds in zip(("(import torch)", *WORDS), zip(*rounds[1:], strict=True), strict=True):
        ratios = [second / each[0] for second, each in zip(seconds, rounds[1:], strict=True)]
        print(f"{words:<20}{statistics.median(seconds):>10.2f}{statistics.median(ratios):>10.2f}")


def main() -> None:
    repeats = next((int(word.split("=")[1]) for word in sys.argv[1:] if word.startswith("repeats=")), 3)
    overrides = [word for word in sys.argv[1:] if not word.startswith(("repeats=", "words="))]
    first_words(repeats)
    if "words=1" in sys.argv:
        return
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment, starts = {**os.environ, "PYTHONPATH": path}, []
    with tempfile.TemporaryDirectory() as root:
        write_files(Path(root))
        for i in range(repeats):
            words = [*SMALL, f"data.root={root}", f"hydra.run.dir={root}/run_{i}", *overrides]
            imports = start("import vdm.cli.train, start; start.mark()", environment, [])
            starts.append(imports + start("from vdm.cli.train import main; main()", environment, words))
    print(f"{'until the end of':<20}{'wall, s':>10}{'least':>8}{'most':>8}{'CPU, s':>10}   (medians of {repeats})")
    for stage, ends in zip(STAGES, zip(*starts, strict=True), strict=True):
        wall, cpu = zip(*ends, strict=True)
        print(
            f"{stage:<20}{statistics.median(wall):>10.1f}{min(wall):>8.1f}{max(wall):>8.1f}{statistics.median(cpu):>10.1f}"
        )


if __name__ == "__main__":
    main()
