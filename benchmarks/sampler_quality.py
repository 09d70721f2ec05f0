"""Compare samples in few steps with samples of the whole ancestral chain.

    python benchmarks/sampler_quality.py CHECKPOINT

The measure is the squared maximum mean discrepancy (Gretton et al. 2012), unbiased, between 1,000 samples and the held-out
digits (validation and test, 447 images that were not in training), on pixels in (−1, 1), with a Gaussian kernel whose width
is the median distance among the held-out digits. It is zero in expectation for two sets from one distribution. The errors
are standard deviations over bootstrap resamples with the *same* held-out rows for every set, so that differences have errors
of their own.
"""

import argparse

import torch

from vdm.cli.command import quiet
from vdm.draws import Draws
from vdm.runs.load import load_run
from vdm.samplers import AncestralSampler, DDIMSampler, DPMSolverSampler, HeunSampler

N, CHUNK, RESAMPLES = 1000, 500, 500
SETS = {
    "ancestral, 250 steps": (AncestralSampler(), 250),
    "ancestral, 20 steps": (AncestralSampler(), 20),
    "DDIM, 20 steps": (DDIMSampler(), 20),
    "Heun, 20 steps (40 calls)": (HeunSampler(), 20),
    "DPM-Solver++ (2M), 20 steps": (DPMSolverSampler(), 20),
}


def kernel(a, b, width):
    """Return the Gaussian kernel matrix of two sets of rows."""
    return torch.exp(-torch.cdist(a, b).square() / (2 * width**2))


def mmd2(within_a, within_b, between, rows_a, rows_b):
    """Return the unbiased MMD² of resamples, given as counts (R, n_a) and (R, n_b) of the original rows."""

    def inner(gram, rows):
        """Return the mean over pairs of different original rows; a row drawn twice is not a pair."""
        pairs = (rows @ gram * rows).sum(1) - (rows.square() * gram.diagonal()).sum(1)
        return pairs / (rows.sum(1).square() - rows.square().sum(1))

    cross = (rows_a @ between * rows_b).sum(1) / (rows_a.sum(1) * rows_b.sum(1))
    return inner(within_a, rows_a) + inner(within_b, rows_b) - 2 * cross


def resampled(n, stream):
    """Return the counts of the original sample and of bootstrap resamples, (1 + R, n)."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=stream)
    counts = torch.zeros(RESAMPLES, n).scatter_add_(1, drawn, torch.ones(RESAMPLES, n))
    return torch.cat([torch.ones(1, n), counts]).double()


@torch.inference_mode()
def main(path):
    quiet()
    run = load_run(path, ema=True)
    data = run.data
    model, splits = run.model, data.splits()
    real = flat(model, torch.cat([splits["val"].x, splits["test"].x]))
    width = torch.pdist(real).median()
    stream = torch.Generator().manual_seed(0)
    rows_real, rows = resampled(len(real), stream), resampled(N, stream)
    within_real, results = kernel(real, real, width), {}
    for name, (sampler, steps) in SETS.items():
        settings = {"sampler": sampler, "steps": steps}
        chunks = [model.sample(CHUNK, data.event_shape, **settings, draws=Draws(seed)) for seed in range(N // CHUNK)]
        x = flat(model, torch.cat(chunks))
        results[name] = mmd2(kernel(x, x, width), within_real, kernel(x, real, width), rows, rows_real)
    train = flat(model, splits["train"].x[:N])
    gram = kernel(train, train, width)
    results["training digits"] = mmd2(gram, within_real, kernel(train, real, width), rows, rows_real)
    reference = results["ancestral, 250 steps"]
    print(f"{'10³ MMD² to the held-out digits':32s}    value      se   minus ancestral-250      se")
    for name, values in results.items():
        difference = values - reference
        numbers = [1e3 * number for number in (values[0], values[1:].std(), difference[0], difference[1:].std())]
        print("{:32s} {:8.3f} {:7.3f} {:21.3f} {:7.3f}".format(name, *numbers))


def flat(model, x):
    """Return x_0 of each example as a row."""
    return model.likelihood.encode(x).double().flatten(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of vdm-train")
    main(parser.parse_args().checkpoint)
