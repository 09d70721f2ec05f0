"""Faster training steps: bfloat16 networks, compiled on a GPU."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.errors import InvalidInput
from vdm.networks import Backbone
from vdm.networks.blocks import compile_blocks
from vdm.training.task import VariationalTask


class FastNetworks(Callback):
    """Run the trunks of the trained networks in bfloat16, and compile their blocks on a GPU.

    γ, stem and head, x̂_0, the loss, the weights and their EMA stay in float32. Validation, test and samples use the EMA
    model, which this callback does not change.

    Args:
        low_precision: run trunks in bfloat16; false for float32.
        compile: compile blocks on a GPU. CPUs are faster uncompiled.

    Raises:
        InvalidInput: at the start of training, if the model has no ``Backbone``.
    """

    def __init__(self, low_precision: bool = True, compile: bool = True) -> None:
        self.low_precision, self.compile = low_precision, compile

    def on_train_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        networks = [part for part in pl_module.model.modules() if isinstance(part, Backbone)]
        if not networks:
            raise InvalidInput(
                "trainer=fast needs a diffusion model's network, and this model has none: use trainer=default"
            )
        for network in networks:
            network.low_precision = torch.bfloat16 if self.low_precision else None
        if self.compile and pl_module.device.type == "cuda":
            compile_blocks(pl_module.model)
