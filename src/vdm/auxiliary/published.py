"""What MuLAN's published code does with its k-hot latent (Sahoo et al. 2024, arXiv 2312.13236), to compare with it.

**Not a bound.** The code draws the k largest of perturbed logits and adds the KL of a *categorical* variable with these
logits. That number is neither an upper nor a lower bound of the KL of the k-hot vector, so that the sum bounds nothing:
``docs/derivation.md``, section 12, has figures. No model of this package uses these functions.
"""

import math

import torch
from torch import Tensor


def sum_of_gamma_noise(gammas: Tensor, k: int) -> Tensor:
    """Return (10/k) (Σ_i (i/k) g_i − log 10), the perturbation of the logits; gammas g_1 … g_10 ~ Gamma(1/k), (10, …)."""
    weights = torch.arange(1, len(gammas) + 1, dtype=gammas.dtype, device=gammas.device) / k
    return len(gammas) / k * (torch.tensordot(weights, gammas, 1) - math.log(len(gammas)))


def perturbed_top_k(logits: Tensor, noise: Tensor, k: int) -> Tensor:
    """Return the k-hot vectors of the k largest of logits + noise, (B, L)."""
    largest = (logits + noise).topk(k, 1).indices
    return torch.zeros_like(logits).scatter(1, largest, 1.0)


def categorical_kl_of_k_hot(logits: Tensor) -> Tensor:
    """Return Σ_j q_j log(L q_j) with q = softmax(logits), (B,): the KL that the code reports, of another variable than z."""
    log_q = torch.log_softmax(logits, 1)
    return (log_q.exp() * log_q).sum(1) + math.log(logits.shape[1])
