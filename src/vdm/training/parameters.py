"""Which parameters an optimiser may decay."""

from typing import Any

from torch import nn

from vdm.schedules import NoiseSchedule

ParameterGroup = dict[str, Any]
"""``params`` and the settings in which they differ from the optimiser's own."""


def parameter_groups(model: nn.Module) -> list[ParameterGroup]:
    """The parameters of every ``NoiseSchedule`` without weight decay, and all others; empty groups are left out.

    Decay pulls γ towards a shape of no meaning wherever its gradient is small.
    """
    schedules = {p for part in model.modules() if isinstance(part, NoiseSchedule) for p in part.parameters()}
    others = [p for p in model.parameters() if p not in schedules]
    learned = [p for p in model.parameters() if p in schedules]
    groups: list[ParameterGroup] = [{"params": others}, {"params": learned, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
