"""By what factor does variance minimisation lower the variance of the training loss?

    vdm-train schedule=monotone hydra.run.dir=RUN
    python benchmarks/loss_variance.py RUN/checkpoints/last.ckpt

The trained denoiser is held fixed and asked on the test digits along the learned path and along the straight line with the
same ends: both losses have the same mean, the bound, and their variances differ by the path alone. The variance is that of
one draw of (t, noise, example) with independent uniform t, in (nats/dim)², and its error that of a bootstrap over examples.
With t stratified over batches of 64 the variance of the batch's mean is given as well, its error from a bootstrap over batches.
"""

import sys

import torch

from vdm.cli.build import quiet, restore
from vdm.draws import Draws
from vdm.models import VDM
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes, UniformTimes

REPEATS, BATCH, BATCHES = 40, 64, 200


def losses(model, x, seed):
    bound = model.elbo(x, Draws(seed))
    return bound.denoising_matching.double() / bound.dims


def ratio_with_error(straight, learned, stream):
    """Var(straight)/Var(learned) and its bootstrap error, rows resampled together."""
    ratios = []
    for _ in range(500):
        rows = torch.randint(len(straight), (len(straight),), generator=stream)
        ratios.append(straight[rows].var() / learned[rows].var())
    return (straight.var() / learned.var()).item(), torch.stack(ratios).std().item()


@torch.inference_mode()
def main(path):
    quiet()
    (data, task), checkpoint = restore(path, ema=True)
    learned = task.evaluated.eval()
    straight = LinearSchedule(learned.schedule.gamma_min, learned.schedule.gamma_max)
    x, stream = data.splits()["test"].x, torch.Generator().manual_seed(0)
    print(f"weights of step {checkpoint.step}")
    for times, rows, repeats in ((UniformTimes(), x, REPEATS), (StratifiedTimes(), x, BATCHES)):
        found = {}
        for name, schedule in (("straight line", straight), ("learned path", learned.schedule)):
            model = VDM(schedule, learned.denoiser, learned.likelihood, learned.time, times)
            if isinstance(times, UniformTimes):
                found[name] = torch.stack([losses(model, rows, seed) for seed in range(repeats)], 1)
            else:
                pick = torch.Generator().manual_seed(1)
                batches = [x[torch.randperm(len(x), generator=pick)[:BATCH]] for _ in range(repeats)]
                found[name] = torch.stack([losses(model, batch, seed).mean() for seed, batch in enumerate(batches)])
        factor, error = ratio_with_error(*found.values(), stream)
        print(f"{type(times).__name__}: variance {factor:.2f} ± {error:.2f} times lower along the learned path")
        for name, value in found.items():
            clusters = value.reshape(len(value), -1).mean(1)
            print(
                f"  {name:14s} mean {value.mean():.4f} ± {clusters.std() / len(clusters) ** 0.5:.4f} var {value.var():.5f} nats/dim"
            )
    t = torch.linspace(0, 1, 11).double()
    print("learned γ at t = 0, 0.1, …, 1:", [round(g, 2) for g in learned.schedule(t).tolist()])


if __name__ == "__main__":
    main(sys.argv[1])
