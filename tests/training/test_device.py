"""Training steps never wait for the GPU, tested without one on torch's fake CUDA tensors.

Reading a number from a fake tensor raises, and blocking copies between host and device are counted.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from support.catalogue import composed, options
from vdm import draws
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.training.build import build

GROUPS = ("schedule", "parameterisation", "likelihood", "times", "objective", "time", "network")
DENSITIES = ("likelihood=gaussian", "likelihood=denoised_gaussian")
SMALL = ("network=mlp", "model.denoiser.network.hidden=8", "model.denoiser.network.blocks=1")


class Copies(TorchDispatchMode):
    """Collect the blocking copies between host and device."""

    def __init__(self):
        super().__init__()
        self.blocking = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            source, target, waits = args[0].device, kwargs.get("device") or args[0].device, not kwargs.get("non_blocking")
            if source.type != torch.device(target).type and waits:
                self.blocking.append((source, target))
        if function is torch.ops.aten.copy_.default and args[0].device.type != args[1].device.type:
            self.blocking.append((args[1].device, args[0].device))
        return function(*args, **kwargs)


def blocking_copies(monkeypatch, *overrides):
    """Return the blocking copies of a training step: loss, clipping, optimiser and EMA, without the backward pass."""
    data, task = build(composed(*overrides))
    train = data.splits()["train"]
    x = train.x[:16]
    task.model.init_from_data(train.x)
    monkeypatch.setattr(draws, "_stream", lambda *key, device=None: None)  # a generator needs a real device
    with FakeTensorMode(allow_non_fake_inputs=True):
        task.to("cuda")
        optimizer = task.optimizer([{"params": list(task.model.parameters())}])
        batch = Batch(torch.empty(x.shape, dtype=x.dtype, device="cuda"), torch.empty(16, dtype=torch.long, device="cuda"))

        def step():
            loss = task.model.loss(batch, Draws(0, 5))
            assert loss.value.device.type == "cuda"
            for weight in task.model.parameters():
                weight.grad = torch.empty_like(weight)
            torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
            optimizer.step()
            task.averaged.update(task.model, 5)

        step()  # the first step may wait
        with Copies() as copies:
            step()
    return copies.blocking


@pytest.mark.parametrize("choice", [f"{group}={option}" for group in GROUPS for option in options(group)])
def test_diffusion_step_never_waits_for_the_device(monkeypatch, choice):
    small = () if choice.startswith("network=") else SMALL
    data = ("experiment=toy",) if choice in DENSITIES else ()
    assert blocking_copies(monkeypatch, *data, *small, choice) == []


@pytest.mark.parametrize("model", [option for option in options("model") if option != "vdm"])
def test_vae_step_never_waits_for_the_device(monkeypatch, model):
    assert blocking_copies(monkeypatch, f"model={model}") == []


def test_fake_device_refuses_to_read_a_number():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="_local_scalar_dense"):
        torch.empty((), device="cuda").item()


def test_copies_counts_blocking_copies():
    with FakeTensorMode(), Copies() as copies:
        torch.empty(2).to("cuda", non_blocking=True)
        assert copies.blocking == []
        torch.empty(2).to("cuda")
        assert len(copies.blocking) == 1
