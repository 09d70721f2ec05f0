"""Measure the speed of training, the bound and sampling, beside other libraries on the same machine.

    pip install -e '.[benchmarks]'
    python benchmarks/speed.py [--batch 8] [--rounds 5] [--only NAME …] > speed.md
    python benchmarks/speed.py --tried                   # changes that did not help on a CPU; compiles for minutes

One thread; the unit is the CPU-second of this process, since wall time depends on the other load of a shared machine. All
contenders of a table take turns within a round, so that a slow minute affects all of them. Ratios are taken within rounds
and printed as median [lowest, highest]. Flops are the model's own (two for each multiply-add, counted by
torch.utils.flop_counter with attention by plain matrix products). The peaks are those of a 1024² matrix product and a 3×3
convolution of 64 channels, which take turns with the training steps. No other library here evaluates the bound, so that its
ratios are to the first model. Peak memory is the growth of a new process over two training steps.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from contenders import ABLATIONS, CONTENDERS, SHAPE, TRIED, Contender, smooth_images
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import ExampleDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.evaluation import BoundEvaluation
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import UNet
from vdm.parameterisations import NoiseParameterisation
from vdm.schedules import LinearSchedule

SAMPLE_STEPS = 4


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU-seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def interleaved(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU-seconds of each function in each round, after one call to warm up."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(cpu_seconds(function))
    return times


def ratio(base: list[float], times: list[float]) -> str:
    """Return the speed relative to ``base``, taken round by round: median [lowest, highest]."""
    values = [b / t for b, t in zip(base, times, strict=True)]
    return f"{median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def step_flops(contender: Contender) -> int:
    """Count the flops of one training step."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        contender.step()
    return counter.get_total_flops()


def convolve(x: Tensor, w: Tensor, grad: Tensor) -> None:
    """Run a convolution and its backward pass."""
    F.conv2d(x, w, padding=1).backward(grad)


def peaks() -> dict[str, tuple[int, Callable[[], object]]]:
    """Return a matrix product and a convolution with its backward pass, each as (flops, function)."""
    operations: dict[str, tuple[int, Callable[[], object]]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(1024, 1024).to(dtype)
        x, w = torch.randn(8, 64, 32, 32).to(dtype).requires_grad_(), torch.randn(64, 64, 3, 3).to(dtype).requires_grad_()
        grad, kind = torch.randn(8, 64, 32, 32).to(dtype), str(dtype).removeprefix("torch.")
        operations[f"matrix product, {kind}"] = 2 * 1024**3, lambda a=a: a @ a
        operations[f"convolution, {kind}"] = 3 * 2 * 8 * 32 * 32 * 64 * 64 * 9, lambda x=x, w=w, g=grad: convolve(x, w, g)
    return operations


def measure_memory(name: str, batch: int, queue: "multiprocessing.Queue[float]") -> None:
    """Put the MiB by which this process grows over two training steps into ``queue``."""
    torch.set_num_threads(1)
    contender = (CONTENDERS | ABLATIONS | TRIED)[name](batch)
    before = high_water()
    contender.step()
    contender.step()
    queue.put(high_water() - before)


def high_water() -> float:
    """Return the peak memory of this process in MiB, from /proc: Linux's getrusage includes the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def peak_memory(name: str, batch: int) -> float:
    """Return the memory in MiB that two training steps take in a new process."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=measure_memory, args=(name, batch, queue))
    process.start()
    value = queue.get()
    process.join()
    return value


def training(contenders: dict[str, Contender], batch: int, rounds: int) -> None:
    """Print the peaks, and the table of training steps."""
    references = peaks()
    steps = {name: contender.step for name, contender in contenders.items()}
    times = interleaved({**steps, **{name: function for name, (_, function) in references.items()}}, rounds)
    peak = {name: flops / min(times[name]) / 1e9 for name, (flops, _) in references.items()}
    print("\n| peak, best of all rounds | GFLOP/CPU-s |\n| --- | --- |")
    for name, value in peak.items():
        print(f"| {name} | {value:.0f} |", flush=True)
    base = next(iter(times.values()))
    print(
        f"\n| training step, batch {batch} | weights | GFLOP an image | images/CPU-s | times the first | GFLOP/CPU-s "
        "| of the peak | MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    counted: dict[tuple[type, float], int] = {}
    for name, contender in contenders.items():
        weights = sum(p.numel() for p in contender.network.parameters()) / 1e6
        key = type(contender.network), weights
        if key not in counted:
            counted[key] = step_flops(contender)
        flops = counted[key] / batch / 1e9
        rate = batch / median(times[name])
        dtype = "bfloat16" if getattr(contender.network, "low_precision", None) else "float32"
        best = max(value for kind, value in peak.items() if kind.endswith(dtype))
        print(
            f"| {name} | {weights:.2f} M | {flops:.2f} | {rate:.1f} | {ratio(base, times[name])} | {rate * flops:.0f} "
            f"| {100 * rate * flops / best:.0f} % | {peak_memory(name, batch):.0f} |",
            flush=True,
        )


def sampling(contenders: dict[str, Contender], batch: int, rounds: int) -> None:
    """Print the table of ancestral sampling."""
    functions = {name: lambda c=c: c.sample(batch, SAMPLE_STEPS) for name, c in contenders.items()}
    times = interleaved(functions, rounds)
    base = next(iter(times.values()))
    print(f"\n| sampling, ancestral, batch {batch} | images × steps a CPU-s | times the first |\n| --- | --- | --- |")
    for name, seconds in times.items():
        print(f"| {name} | {batch * SAMPLE_STEPS / median(seconds):.1f} | {ratio(base, seconds)} |", flush=True)


class NetworkTimer:
    """CPU-seconds spent in a network during a call of a function that uses it."""

    def __init__(self, network: nn.Module) -> None:
        self.spent = self._start = 0.0
        self._hooks = network.register_forward_pre_hook(self._enter), network.register_forward_hook(self._leave)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, *_: object) -> None:
        self._start = time.process_time()

    def _leave(self, *_: object) -> None:
        self.spent += time.process_time() - self._start

    def recorded(self, function: Callable[[], object], record: list[float]) -> Callable[[], None]:
        """Return ``function`` with the time in the network appended to ``record``."""

        def call() -> None:
            self.spent = 0.0
            function()
            record.append(self.spent)

        return call


@torch.no_grad()
def bounds(contenders: dict[str, Contender], batch: int, rounds: int) -> None:
    """Print the table of the one-t bound and the full sum, with the share of time outside the network."""
    x, index, steps = smooth_images(batch), torch.arange(batch), 8
    functions: dict[str, Callable[[], None]] = {}
    inside: dict[str, list[float]] = {}
    timers = []
    for name, contender in contenders.items():
        if contender.model is None or not name.endswith("default"):
            continue
        model, timer = contender.model.eval(), NetworkTimer(contender.model.denoiser.network)
        timers.append(timer)
        discrete = model.at(DiscreteTime(1 + steps))
        for bound, function in (
            ("one t", lambda m=model: m.elbo(x, ExampleDraws(index))),
            ("full sum, T = 1001", lambda m=discrete: m.elbo_all_times(x, ExampleDraws(index))),
        ):
            key = f"{bound}: {name}"
            functions[key] = timer.recorded(function, inside.setdefault(key, []))
    times = interleaved(functions, rounds)
    for timer in timers:
        timer.remove()
    print(f"\n| bound, batch {batch} | images/CPU-s | times the first | outside the network |\n| --- | --- | --- | --- |")
    for name, seconds in times.items():
        bound = name.partition(":")[0]
        share = 1 if bound == "one t" else 1000 / steps
        base = next(times[first] for first in times if first.startswith(bound))
        outside = 100 * (1 - sum(inside[name][-rounds:]) / sum(seconds))
        print(f"| {name} | {batch / median(seconds) / share:.3g} | {ratio(base, seconds)} | {outside:.1f} % |", flush=True)


@torch.no_grad()
def replicates(rounds: int) -> None:
    """Print the table of replicates of the bound in one call, for a network of 16 channels and four 1×8×8 examples."""
    network = UNet((1, 8, 8), channels=16, multipliers=(1, 2), blocks=1, gamma_min=-8.0, gamma_max=5.0)
    parts = (LinearSchedule(-8.0, 5.0), Denoiser(network, NoiseParameterisation()), CategoricalLikelihood(17))
    model = VDM(*parts, ContinuousTime()).eval()
    batch = Batch(torch.randint(0, 17, (4, 1, 8, 8)), torch.arange(4))
    alone, together = BoundEvaluation(64, rows=1), BoundEvaluation(64)
    functions = {
        "one call for each replicate": lambda: alone(model, batch),
        "replicates side by side": lambda: together(model, batch),
    }
    times = interleaved(functions, rounds)
    base = times["one call for each replicate"]
    print("\n| 64 replicates of the bound, 4 examples of 1×8×8 | images/CPU-s | times the first |\n| --- | --- | --- |")
    for name, seconds in times.items():
        print(f"| {name} | {4 * 64 / median(seconds):.0f} | {ratio(base, seconds)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    chosen.add_argument("--tried", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"images {'×'.join(map(str, SHAPE))}, one thread, torch {torch.__version__}, {capability}")
    if arguments.tried:
        training({name: build(arguments.batch) for name, build in TRIED.items()}, arguments.batch, arguments.rounds)
        return
    contenders = {name: CONTENDERS[name](arguments.batch) for name in arguments.only}
    training(contenders, arguments.batch, arguments.rounds)
    if len(contenders) == len(CONTENDERS):
        ablations = {name: build(arguments.batch) for name, build in ABLATIONS.items()}
        training(ablations, arguments.batch, arguments.rounds)
    plain = {name: contender for name, contender in contenders.items() if "fast" not in name}
    if plain:
        bounds(plain, arguments.batch, arguments.rounds)
        sampling(plain, arguments.batch, arguments.rounds)
    replicates(arguments.rounds)


if __name__ == "__main__":
    main()
