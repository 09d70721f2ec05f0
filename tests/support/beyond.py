"""Arrays of published relaxations of the VDM (tests/fixtures/beyond/README.md), and their networks as modules."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vdm.networks import FourierFeatures, VDMUNet
from vdm.networks.official import network_state

FOLDER = Path(os.environ.get("VDM_BEYOND", Path(__file__).parents[1] / "fixtures/beyond"))
"""The arrays; another folder with the same names and more of them, to check more."""


def arrays(name):
    """All arrays of a file by name; weights are stored as codes with their values."""
    found = dict(np.load(FOLDER / f"{name}.npz"))
    values = {key.removesuffix(" values"): found.pop(key) for key in list(found) if key.endswith(" values")}
    return {key: values[key][array] if key in values else array for key, array in found.items()}


class Vectors:
    """The vectors of a file in float64, with the channels of images first."""

    def __init__(self, name):
        self.arrays = arrays(name)

    def raw(self, name):
        return torch.from_numpy(np.asarray(self.arrays[name], dtype=np.float64))

    def __getitem__(self, name):
        array = self.raw(name)
        return array.movedim(-1, 1) if array.ndim == 4 else array


class PlusInput(nn.Module):
    """network(x, …) + x: the published networks add their input to their output."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x_t, gamma_t, condition=None):
        return self.network(x_t, gamma_t, condition) + x_t


def official_network(parameters, prefix, parts=(), channels=64, fourier=True, condition=None):
    """The official U-Net with the parameters under ``prefix``; ``parts`` are names of groups to be left out of paths."""
    own = {}
    for name, array in parameters.items():
        if name.startswith(prefix):
            short = name.removeprefix(prefix)
            for part in parts:
                short = short.replace(f"{part}/", "")
            last = (
                short == "dense0/kernel" and condition is not None
            )  # network_state drops a row, which is the latent's here
            own[short] = np.concatenate([array, array[:1]]) if last else array
    features = FourierFeatures() if fourier else None
    network = VDMUNet((3, 8, 8), channels, 1, gamma_min=-13.3, gamma_max=5.0, fourier=features, condition=condition)
    return network.double(), network_state(own, "")
