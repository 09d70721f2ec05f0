"""Drawing noise levels evenly in γ, so that models with different schedules are evaluated at the same γ."""

from copy import copy

import torch

from vdm.bound import VariationalModel
from vdm.draws import scalar_dtype
from vdm.elbo import ContinuousTime
from vdm.models import DiffusionModel
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes


@torch.no_grad()
def with_even_gamma(model: VariationalModel) -> VariationalModel:
    """Return the same model with γ drawn evenly between its ends; any other than continuous, scalar time unchanged.

    In continuous time the bound depends on a scalar γ(t) through its ends only (Kingma et al. 2021, section 5.1), so its
    expectation is the same. Two models with the same ends then see the same γ and noise in equally keyed draws.
    """
    if not (isinstance(model, DiffusionModel) and isinstance(model.time, ContinuousTime)) or model.depends_on_path:
        return model
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    ends = model.schedule(torch.tensor([0.0, 1.0], dtype=scalar_dtype(device), device=device))
    if ends.ndim > 1:  # per pixel: the whole path matters
        return model
    other = copy(model)
    other._modules = dict(model._modules)  # a shallow copy shares them, and would change the model
    other.schedule = LinearSchedule(*ends.tolist()).to(device)
    other.times = StratifiedTimes()
    return other
