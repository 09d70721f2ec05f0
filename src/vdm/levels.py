"""Integer levels as reals: the one place that knows where level k of K lies on the (−1, 1) scale."""

import torch
from torch import Tensor

from vdm.gamma import align, alpha_bar, sigma2


def level_to_real(x: Tensor, levels: int) -> Tensor:
    """Level k ↦ its centre v_k = 2(k + ½)/K − 1; float32 unless x is a floating type."""
    return 2 * ((x if x.is_floating_point() else x.float()) + 0.5) / levels - 1


def real_to_level(z: Tensor, levels: int) -> Tensor:
    """The level in whose bin the real number z lies: [2k/K − 1, 2(k + 1)/K − 1), the first and the last without end."""
    return ((z + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()


def level_centres(levels: int, like: Tensor) -> Tensor:
    """The K centres v_k, in the dtype and on the device of ``like``."""
    return level_to_real(torch.arange(levels, dtype=like.dtype, device=like.device), levels)


def level_logits(x_t: Tensor, gamma_t: Tensor, levels: int) -> Tensor:
    """log N(x_t; √ᾱ v_k, 1 − ᾱ) up to a constant, (B, *event, K): each level's claim on a noisy pixel, by itself."""
    signal, noise = align(alpha_bar(gamma_t).sqrt(), x_t), align(sigma2(gamma_t).sqrt(), x_t)
    z = (x_t / noise).unsqueeze(-1) - (signal / noise).unsqueeze(-1) * level_centres(levels, x_t)
    return -0.5 * z.square()


def level_mean(x_t: Tensor, gamma_t: Tensor, prior: Tensor) -> Tensor:
    """E[x_0 | x_t] of single pixels, (B, *event), by Bayes' rule.

    Args:
        prior: log p(x = k) up to a constant, (K,) or (B, *event, K).
    """
    levels = prior.shape[-1]
    return torch.softmax(level_logits(x_t, gamma_t, levels) + prior, -1) @ level_centres(levels, x_t)


def level_prior(x: Tensor, levels: int) -> Tensor:
    """The log of the share of each level among the data x, (K,) in float64; a level never seen counts as seen once."""
    counts = torch.bincount(x.flatten().long(), minlength=levels).double() + 1
    return (counts / counts.sum()).log()
