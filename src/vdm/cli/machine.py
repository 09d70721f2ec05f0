"""What a command does to torch before its task: precision of float32, threads, and the device."""

import os

import torch

from vdm.cpus import allowed_cpus
from vdm.errors import InvalidInput


def prepare() -> None:
    """Switch TF32 off, and use no more threads than the process has CPUs."""
    torch.backends.cudnn.allow_tf32 = False  # TF32, a GPU's default in convolutions, has ten bits of mantissa
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), allowed_cpus()))


def device_of(accelerator: str) -> torch.device:
    """Return the device for work outside a Trainer, by the Trainer's names; Apple's GPU is left to the Trainer.

    Raises:
        InvalidInput: an accelerator that this machine does not have.
    """
    cuda, apple = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = {"auto": True, "cpu": True, "gpu": cuda or apple, "cuda": cuda, "mps": apple}
    if not available.get(accelerator, False):
        known = ", ".join(name for name in available if available[name])
        raise InvalidInput(f"accelerator={accelerator} is not available on this machine: choose one of {known}")
    return torch.device("cuda" if cuda and accelerator != "cpu" else "cpu")
