"""What a training step asks of a device, without a device: torch's fake tensors go through it as a GPU's would.

Reading a number of theirs raises, since there is none; and copies between the processor and the device that would have one
wait for the other are counted.
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
    """The copies from one kind of device to another for which the processor waits."""

    def __init__(self):
        super().__init__()
        self.waited_for = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            source, target, waits = args[0].device, kwargs.get("device") or args[0].device, not kwargs.get("non_blocking")
            if source.type != torch.device(target).type and waits:
                self.waited_for.append((source, target))
        if function is torch.ops.aten.copy_.default and args[0].device.type != args[1].device.type:
            self.waited_for.append((args[1].device, args[0].device))
        return function(*args, **kwargs)


def asked_of_the_device(monkeypatch, *overrides):
    """The copies that a training step waits for: loss, clipping, optimiser and average. The backward pass is torch's."""
    data, task = build(composed(*overrides))
    train = data.splits()["train"]
    x = train.x[:16]
    task.model.init_from_data(train.x)
    monkeypatch.setattr(draws, "_stream", lambda *key, device=None: None)  # a generator needs its device to be there
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

        step()  # what is done once may wait
        with Copies() as copies:
            step()
    return copies.waited_for


@pytest.mark.parametrize("choice", [f"{group}={option}" for group in GROUPS for option in options(group)])
def test_no_step_of_a_diffusion_model_waits_for_its_device(monkeypatch, choice):
    small = () if choice.startswith("network=") else SMALL
    data = ("experiment=toy",) if choice in DENSITIES else ()
    assert asked_of_the_device(monkeypatch, *data, *small, choice) == []


@pytest.mark.parametrize("model", [option for option in options("model") if option != "vdm"])
def test_no_step_of_the_models_before_it_does(monkeypatch, model):
    assert asked_of_the_device(monkeypatch, f"model={model}") == []


def test_a_number_that_is_read_would_be_noticed():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="_local_scalar_dense"):
        torch.empty((), device="cuda").item()


def test_a_copy_that_is_waited_for_would_be_noticed():
    with FakeTensorMode(), Copies() as copies:
        torch.empty(2).to("cuda", non_blocking=True)
        assert copies.waited_for == []
        torch.empty(2).to("cuda")
        assert len(copies.waited_for) == 1
