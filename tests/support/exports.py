"""Untrained models, exported."""

import sys

import pytest
import torch

from support.catalogue import composed
from vdm.cli import export
from vdm.config.composed import to_plain
from vdm.models import HVAE, MHVAE, VDM
from vdm.training.build import build

SMALL = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1")


MODELS = {
    "vdm": (VDM, SMALL),
    "learned schedule": (VDM, (*SMALL, "schedule=learned_monotone", "time=discrete", "sampler=ddim")),
    "per pixel": (VDM, (*SMALL, "schedule=per_pixel", "likelihood=discretised_gaussian_learned")),
    "hvae": (HVAE, ("model=hvae", "latents.network.channels=8")),
    "mhvae": (MHVAE, ("model=mhvae", "latents.network.channels=8")),
}


def exported(folder, overrides):
    """An untrained model's checkpoint, its weights made different from their start, and its export."""
    config = to_plain(composed(*overrides))
    _, task = build(config)
    torch.manual_seed(5)
    state = {f"averaged.module.{name}": nudged(value) for name, value in task.evaluated.state_dict().items()}
    own = {"format": 2, "config": config, "provenance": {"vdm": "0.1.0", "data": {"name": "digits"}}}
    torch.save({"vdm": own, "state_dict": state, "global_step": 7}, folder / "some.ckpt")
    assert call(f"ckpt={folder}/some.ckpt", f"folder={folder}/model") == 0
    return folder / "some.ckpt", folder / "model"


def nudged(value):
    return value + 0.01 * torch.randn_like(value) if value.is_floating_point() else value


def call(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vdm-export", *arguments])
        try:
            export.main()
        except SystemExit as end:
            return end.code
    return 0
