"""What a code depends on besides the model: libraries and the machine."""

import hashlib
from importlib.metadata import version

import torch

from vdm.bound import VariationalModel
from vdm.codec.container import Header
from vdm.errors import InvalidInput


def model_digest(model: VariationalModel) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a model's class, and the names, shapes and bytes of its weights."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def machine() -> dict[str, str]:
    """Return the versions and the CPU's capability on which the last digits of a network's output depend."""
    return {
        "torch": str(torch.__version__),
        "constriction": version("constriction"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def differences(header: Header) -> list[str]:
    """Return one phrase for each fact that was another where the images were compressed."""
    here = machine()
    return [f"{name} {getattr(header, name)} (here {here[name]})" for name in here if getattr(header, name) != here[name]]


def check_model(model: VariationalModel, header: Header) -> None:
    """Raise InvalidInput unless the images were compressed by this very model."""
    digest = model_digest(model)
    if digest != header.model:
        raise InvalidInput(
            f"the images were compressed by the model {header.model}, and this is {digest}: name the checkpoint they were "
            "compressed with"
        )
