"""Running the trained networks faster, without touching what is evaluated."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.errors import InvalidInput
from vdm.networks import Backbone
from vdm.networks.blocks import compile_blocks
from vdm.training.task import VariationalTask


class FastNetworks(Callback):
    """Training steps with the networks' bodies in bfloat16, and on a GPU compiled block by block.

    γ, the first and the last layer, x̂_0, the loss, the weights and their average stay in float32. Validation, test and
    pictures look at the averaged model, another object, which runs as it always does: float32, not compiled.

    Args:
        low_precision: bfloat16 for the bodies; false for float32.
        compile: whether blocks are compiled where there is a GPU; a CPU is faster with the kernels that torch brings.
    """

    def __init__(self, low_precision: bool = True, compile: bool = True) -> None:
        self.low_precision, self.compile = low_precision, compile

    def on_train_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        """
        Raises:
            InvalidInput: a model without such networks.
        """
        networks = [part for part in pl_module.model.modules() if isinstance(part, Backbone)]
        if not networks:
            raise InvalidInput("trainer=fast is for the networks of diffusion models, and here is none: use trainer=default")
        for network in networks:
            network.low_precision = torch.bfloat16 if self.low_precision else None
        if self.compile and pl_module.device.type == "cuda":
            compile_blocks(pl_module.model)
