"""Assertions that two models have the same bound, bit for bit and in every form."""

import torch

from vdm.batch import Batch
from vdm.draws import Draws


def assert_same_estimates(model, other, x):
    """The one-t estimate and the training loss agree."""
    _assert_same(model, other, lambda m: m.elbo(x, Draws(1)).total, lambda m: m.loss(Batch(x, None), Draws(1)).value)


def assert_same_forms(model, other, x):
    """In discrete time the whole sum, (1.46) and the log-weight agree."""
    _assert_same(
        model,
        other,
        lambda m: m.elbo_all_times(x, Draws(1)).matching,
        lambda m: m.elbo_all_times(x, Draws(1)).total,
        lambda m: m.consistency_elbo(x, Draws(1)).log_ratios,
        lambda m: m.consistency_elbo(x, Draws(1)).total,
        lambda m: m.log_weight(x, Draws(1)),
    )


def _assert_same(model, other, *methods):
    for method in methods:
        assert torch.equal(method(model), method(other))
