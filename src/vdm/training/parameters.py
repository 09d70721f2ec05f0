"""Parameter groups for the optimiser."""

from typing import Any

from torch import nn

from vdm.schedules import NoiseSchedule

ParameterGroup = dict[str, Any]
"""``params`` and the settings that override the optimiser's defaults for them."""


def parameter_groups(model: nn.Module) -> list[ParameterGroup]:
    """Group ``model``'s parameters: noise schedules get no weight decay. Empty groups are left out.

    Weight decay on a noise schedule would pull γ(t) to an arbitrary shape wherever its gradient is small.
    """
    schedules = {p for part in model.modules() if isinstance(part, NoiseSchedule) for p in part.parameters()}
    others = [p for p in model.parameters() if p not in schedules]
    learned = [p for p in model.parameters() if p in schedules]
    groups: list[ParameterGroup] = [{"params": others}, {"params": learned, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
