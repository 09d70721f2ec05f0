"""Measure by what factor a learned schedule lowers the variance of the training loss.

    vdm-train schedule=monotone hydra.run.dir=RUN
    python benchmarks/loss_variance.py RUN/checkpoints/last.ckpt

The trained denoiser is evaluated on the test digits along the learned path and along the straight line in γ with the same
ends. Both losses have the same mean, the denoising term of the bound in nats/dim, and their variances differ by the path
alone. First: the variance of one draw of (t, noise, example) with independent, uniform t; its error is a bootstrap over
examples. Second: the variance of the mean over a batch of 64 with stratified t; its error is a bootstrap over batches.
"""

import argparse

import torch

from vdm.cli.command import quiet
from vdm.draws import Draws
from vdm.models import VDM
from vdm.runs.load import load_run
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes, UniformTimes

REPEATS, BATCH, BATCHES = 40, 64, 200


def losses(model, x, seed):
    """Return one draw of the one-t loss of each example, (examples,), in nats/dim."""
    bound = model.elbo(x, Draws(seed))
    return bound.denoising_matching.double() / bound.dims


def single_draws(model, x):
    """Return losses of independent draws, (examples, repeats)."""
    return torch.stack([losses(model, x, seed) for seed in range(REPEATS)], 1)


def batch_means(model, x):
    """Return the mean losses of random batches, (batches,)."""
    stream = torch.Generator().manual_seed(1)
    batches = [x[torch.randperm(len(x), generator=stream)[:BATCH]] for _ in range(BATCHES)]
    return torch.stack([losses(model, batch, seed).mean() for seed, batch in enumerate(batches)])


def factor(straight, learned):
    """Return Var(straight)/Var(learned) and its bootstrap error, with the same rows resampled in both."""
    stream, ratios = torch.Generator().manual_seed(0), []
    for _ in range(500):
        rows = torch.randint(len(straight), (len(straight),), generator=stream)
        ratios.append(straight[rows].var() / learned[rows].var())
    return straight.var() / learned.var(), torch.stack(ratios).std()


@torch.inference_mode()
def main(path):
    quiet()
    run = load_run(path, ema=True)
    trained, x = run.model, run.data.splits()["test"].x
    straight = LinearSchedule(trained.schedule.gamma_min, trained.schedule.gamma_max)
    print(f"weights of step {run.checkpoint.step}")
    for label, draw, times in (("one draw", single_draws, UniformTimes()), ("batch mean", batch_means, StratifiedTimes())):
        values = {}
        for name, schedule in (("straight line", straight), ("learned path", trained.schedule)):
            values[name] = draw(VDM(schedule, trained.denoiser, trained.likelihood, trained.time, times), x)
        ratio, error = factor(*values.values())
        print(f"{label}: the variance is {ratio:.2f} ± {error:.2f} times lower along the learned path")
        for name, value in values.items():
            rows = value.reshape(len(value), -1).mean(1)
            print(f"  {name:14s} mean {value.mean():.4f} ± {rows.std() / len(rows) ** 0.5:.4f}, variance {value.var():.5f}")
    gamma = trained.schedule(torch.linspace(0, 1, 11).double())
    print("learned γ at t = 0, 0.1, …, 1:", *(f"{value:.2f}" for value in gamma.tolist()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of vdm-train")
    main(parser.parse_args().checkpoint)
