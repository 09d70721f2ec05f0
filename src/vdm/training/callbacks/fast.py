"""Faster training steps: bfloat16 networks, compiled on a GPU."""

import sys
from typing import Literal

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
        low_precision: run trunks in bfloat16; false for float32; auto for bfloat16 where the hardware has it.
        compile: compile blocks on a GPU. CPUs are faster uncompiled.

    Raises:
        InvalidInput: at the start of training, if the model has no ``Backbone``.
    """

    def __init__(self, low_precision: bool | Literal["auto"] = True, compile: bool = True) -> None:
        self.low_precision, self.compile = low_precision, compile

    def on_train_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        networks = [part for part in pl_module.model.modules() if isinstance(part, Backbone)]
        if not networks:
            raise InvalidInput(
                "trainer=fast needs a diffusion model's network, and this model has none: use trainer=default"
            )
        low = self._low(pl_module.device)
        for network in networks:
            network.low_precision = torch.bfloat16 if low else None
        if self.compile and pl_module.device.type == "cuda":
            compile_blocks(pl_module.model)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say in one line what this device leaves switched off."""
        device = pl_module.device
        missing = [] if self._low(device) else ["bfloat16, for which it has no instructions"]
        missing += [] if self.compile and device.type == "cuda" else ["compiled blocks, which pay on GPUs"]
        if missing and trainer.is_global_zero:
            print(f"trainer=fast on this {device.type} is without {', and without '.join(missing)}", file=sys.stderr)

    def _low(self, device: torch.device) -> bool:
        return has_bfloat16(device) if self.low_precision == "auto" else self.low_precision


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 by instructions of its own; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(value is True and "bf16" in name for name, value in torch.cpu.get_capabilities().items())
    return False
