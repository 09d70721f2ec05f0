"""Seconds from the start of ``vdm-train`` to its first training step, on 50,000 + 10,000 random images in CIFAR-10's files.

    python benchmarks/start.py                                   # three starts, the files made beforehand
    python benchmarks/start.py repeats=1 data.workers=2          # any override of vdm-train

Wall-clock and CPU time, by stage: Python and the imports; composing, data, checks and hashes, model, Trainer; the first
batch; the first step of a small network (64 channels, 1 block, 16 images). Compiling a network takes its own time on top.
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

BEGAN = "VDM_BENCHMARK_BEGAN"
SMALL = (
    "experiment=cifar10",
    "data.md5=null",
    "model.denoiser.network.channels=64",
    "model.denoiser.network.blocks=1",
    "data.batch_size=16",
    "trainer.accelerator=cpu",
    "+callbacks.clock._target_=start.Clock",
)
STAGES = ("imports", "data and model", "first batch", "first step")


class Clock(pl.Callback):
    """Leaves a mark at the end of each stage, and ends the process after one step."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        mark()

    def on_train_batch_start(self, *_: object) -> None:
        mark()

    def on_train_batch_end(self, *_: object) -> None:
        mark()
        os._exit(0)


def mark() -> None:
    """One line with wall-clock seconds since the command was started, and CPU-seconds of this process."""
    print("mark", time.time() - float(os.environ[BEGAN]), time.process_time(), flush=True)


def write_files(root: Path) -> None:
    """Six files of 10,000 random images each."""
    folder, draw = root / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        held = {b"data": draw.integers(0, 256, (10_000, 3072), dtype=np.uint8), b"labels": [0] * 10_000}
        (folder / name).write_bytes(pickle.dumps(held))


def start(code: str, environment: dict[str, str], overrides: list[str]) -> list[list[float]]:
    """The marks that a fresh Python leaves: (wall, CPU) each."""
    environment = {**environment, BEGAN: str(time.time())}
    done = subprocess.run([sys.executable, "-c", code, *overrides], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [[float(word) for word in line.split()[1:]] for line in done.stdout.splitlines() if line.startswith("mark ")]


def main() -> None:
    repeats = next((int(word.split("=")[1]) for word in sys.argv[1:] if word.startswith("repeats=")), 3)
    overrides = [word for word in sys.argv[1:] if not word.startswith("repeats=")]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment, found = {**os.environ, "PYTHONPATH": path}, []
    with tempfile.TemporaryDirectory() as root:
        write_files(Path(root))
        for i in range(repeats):
            words = [*SMALL, f"data.root={root}", f"hydra.run.dir={root}/run_{i}", *overrides]
            imports = start("import vdm.cli.train, start; start.mark()", environment, [])
            found.append(imports + start("from vdm.cli.train import main; main()", environment, words))
    print(f"{'until the end of':<20}{'wall, s':>10}{'least':>8}{'most':>8}{'CPU, s':>10}   (medians of {repeats})")
    for stage, ends in zip(STAGES, zip(*found, strict=True), strict=True):
        wall, cpu = zip(*ends, strict=True)
        print(
            f"{stage:<20}{statistics.median(wall):>10.1f}{min(wall):>8.1f}{max(wall):>8.1f}{statistics.median(cpu):>10.1f}"
        )


if __name__ == "__main__":
    main()
