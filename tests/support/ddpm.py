"""DDPM's bound by a sum over all steps, from β alone; no code of the package."""

import math

import torch


def bound_terms(betas, predict, x, noise, variance, clip=False):
    """(decoder, prior, [KL of t = 2 … T]) in nats an example, for images x of levels 0 … 255.

    Args:
        betas: floats.
        predict: (x_t, t from 0) ↦ (x̂_0, v or None).
        noise: eps_1 … eps_T.
        variance: "small", "large" or "learned".
    """
    bars = [math.prod(1 - b for b in betas[: t + 1]) for t in range(len(betas))]
    x_0, kls = 2 * x.double() / 255 - 1, []
    for t, beta in enumerate(betas):
        x_t = bars[t] ** 0.5 * x_0 + (1 - bars[t]) ** 0.5 * noise[t]
        x_hat, v = predict(x_t, t)
        x_hat = x_hat.clamp(-1, 1) if clip else x_hat
        n = max(t, 1)  # the posterior's variance at t = 0 is zero: that of t = 1 in its place
        small = betas[n] * (1 - bars[n - 1]) / (1 - bars[n])
        log_variance = math.log(small) + torch.zeros_like(x_0)
        if variance == "learned":
            log_variance = (v + 1) / 2 * math.log(beta) + (1 - v) / 2 * math.log(small)
        elif variance == "large" and t:
            log_variance = math.log(beta) + torch.zeros_like(x_0)
        if t == 0:
            decoder = _decoder(x, x_0, x_hat, (log_variance / 2).exp())
            continue
        distance = bars[t - 1] ** 0.5 * beta / (1 - bars[t]) * (x_0 - x_hat)
        kl = 0.5 * (log_variance - math.log(small) - 1 + (small + distance**2) * torch.exp(-log_variance))
        kls.append(kl.flatten(1).sum(1))
    prior = 0.5 * (bars[-1] * x_0**2 + (1 - bars[-1]) - 1 - math.log(1 - bars[-1]))
    return decoder, prior.flatten(1).sum(1), torch.stack(kls, 1)


def _decoder(x, x_0, mean, deviation):
    """log of the mass of x_0 ± 1/255, open at the ends."""
    infinity = torch.full_like(mean, math.inf)
    upper = torch.where(x == 255, infinity, (x_0 + 1 / 255 - mean) / deviation)
    lower = torch.where(x == 0, -infinity, (x_0 - 1 / 255 - mean) / deviation)
    far = lower + upper > 0  # the difference of the two smaller tails, which loses no digits
    one, two = torch.where(far, -lower, upper), torch.where(far, -upper, lower)
    larger, smaller = torch.special.log_ndtr(one), torch.special.log_ndtr(two)
    return (larger + torch.log(-torch.expm1(smaller - larger))).flatten(1).sum(1)


def cosine(steps):
    bar = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    return [min(1 - bar[t + 1] / bar[t], 0.999) for t in range(steps)]


def linear(steps):
    first, last = 0.1 / steps, 20 / steps
    return [first + (last - first) * t / (steps - 1) for t in range(steps)]


def assert_agrees(bound, decoder, prior, kls):
    """A bound's terms are the independent sums: KLs and prior to 1e-10, the decoder to 1e-9."""
    assert torch.allclose(bound.matching, kls, rtol=1e-10)
    assert torch.allclose(bound.prior_matching, prior, rtol=1e-10)
    assert torch.allclose(bound.reconstruction, decoder, rtol=1e-9)
