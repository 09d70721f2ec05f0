"""Measure training in bfloat16 on a GPU: the share of its peak, and bits/dim beside float32.

    python benchmarks/gpu.py [--channels 128] [--blocks 32] [--batch 128] [--steps 200]

The default is the paper's network for CIFAR-10 as trainer=fast runs it: trunk in bfloat16, blocks compiled. Utilisation is
the model's flops a second, forward and backward, divided by those of the best matrix product in bfloat16 on the same device.
Two models take the same steps from the same weights with the same draws, one of them in float32. Both are then evaluated in
float32 on new images with the same draws; the error is over those images. ``--device cpu`` tests the script itself.
"""

import argparse
import sys
import time

import torch
from contenders import SHAPE, smooth_images, update_weights
from torch.utils.flop_counter import FlopCounterMode

from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.evaluation import BoundEvaluation
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import FourierFeatures, VDMUNet
from vdm.networks.blocks import compile_blocks
from vdm.parameterisations import ResidualNoiseParameterisation
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes
from vdm.training.callbacks.throughput import measured_peak
from vdm.training.ema import ExponentialAverage

WARM_UP = 5
BATCHES = 8
"""Number of different batches, which are on the device before the clock starts."""


class Training:
    """A model, its average and its optimiser."""

    def __init__(self, arguments: argparse.Namespace, low_precision: bool) -> None:
        torch.manual_seed(0)
        network = VDMUNet(SHAPE, arguments.channels, arguments.blocks, -13.3, 5.0, dropout=0.1, fourier=FourierFeatures())
        parts = (Denoiser(network, ResidualNoiseParameterisation()), CategoricalLikelihood(256), ContinuousTime())
        self.model = VDM(LinearSchedule(-13.3, 5.0), *parts, StratifiedTimes()).to(arguments.device).train()
        self.average = ExponentialAverage(self.model, 0.99)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-4, fused=True)
        self.network = network
        network.low_precision = torch.bfloat16 if low_precision else None

    def step(self, number: int, x: torch.Tensor) -> None:
        """Take training step ``number`` on ``x``."""
        draws = Draws(0, number)
        draws.seed_torch()
        batch = Batch(x, torch.arange(len(x), device=x.device))
        update_weights(self.model.loss(batch, draws).value.mean(), self.model, self.optimizer)
        self.average.update(self.model, number)

    def flops(self, x: torch.Tensor) -> int:
        """Count the flops of one step on ``x``; call it before compiling. They are proportional to the batch size."""
        with FlopCounterMode(display=False) as counter:
            self.model.loss(Batch(x, torch.arange(len(x), device=x.device)), Draws(0)).value.mean().backward()
        self.optimizer.zero_grad()
        return counter.get_total_flops()

    def run(self, steps: int, batch: int, device: str) -> float:
        """Return the seconds of a step, after ``WARM_UP`` steps."""
        start, batches = 0.0, [smooth_images(batch, seed=number).to(device) for number in range(BATCHES)]
        for number in range(steps):
            if number == min(WARM_UP, steps - 1):
                synchronize(device)
                start = time.perf_counter()
            self.step(number, batches[number % BATCHES])
        synchronize(device)
        return (time.perf_counter() - start) / (steps - min(WARM_UP, steps - 1))


def synchronize(device: str) -> None:
    """Wait for the kernels of a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def bits_per_dim(training: Training, examples: int, device: str) -> torch.Tensor:
    """Return the bits/dim of each new image under the averaged weights, in float32."""
    x, index = smooth_images(examples, seed=-1).to(device), torch.arange(examples, device=device)
    return BoundEvaluation(repeats=8, rows=128)(training.average.module, Batch(x, index))[0].mean(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py measures a GPU, and torch sees none: run it on a machine that has one")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True
    fast, exact = Training(arguments, low_precision=True), Training(arguments, low_precision=False)
    few = min(2, arguments.batch)
    flops = fast.flops(smooth_images(few).to(arguments.device)) * arguments.batch / few
    if arguments.device == "cuda":
        compile_blocks(fast.network)
    seconds = {}
    for name, training in (("bfloat16", fast), ("float32", exact)):
        seconds[name] = training.run(arguments.steps, arguments.batch, arguments.device)
        rate = arguments.batch / seconds[name]
        print(f"{name}: {rate:.1f} images/s, {flops / seconds[name] / 1e12:.3g} TFLOP/s", flush=True)
    peak = measured_peak(torch.device(arguments.device), torch.bfloat16)
    share = flops / seconds["bfloat16"] / peak
    print(f"bfloat16: {share:.1%} of the {peak / 1e12:.3g} TFLOP/s of a matrix product in bfloat16")
    values = [bits_per_dim(training, arguments.examples, arguments.device).double() for training in (fast, exact)]
    difference = values[0] - values[1]
    error = difference.std() / len(difference) ** 0.5
    print(f"bits/dim: {values[0].mean():.4f} after bfloat16, {values[1].mean():.4f} after float32")
    print(f"difference {difference.mean():+.5f}, standard error {error:.5f}")


if __name__ == "__main__":
    main()
