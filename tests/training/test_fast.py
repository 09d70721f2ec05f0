"""trainer=fast: training agrees within bfloat16 rounding, checkpoints and evaluation exactly."""

import copy
import math
import shutil
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from hydra.utils import instantiate

from support.catalogue import composed, options
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.networks import Backbone
from vdm.networks.blocks import Block, Dropout, compile_blocks
from vdm.training.build import build
from vdm.training.callbacks.fast import FastNetworks

SMALL = {
    "unet": ("model.denoiser.network.channels=16", "model.denoiser.network.blocks=1"),
    "vdm_unet": ("model.denoiser.network.channels=16", "model.denoiser.network.blocks=2"),
    "mlp": ("model.denoiser.network.hidden=32", "model.denoiser.network.blocks=2"),
}


DEEP = tuple(
    f"model.denoiser.network.{setting}" for setting in ("channels=8", "multipliers=[1,2,3]", "blocks=2", "attention=[2]")
)


def trained(name, *overrides):
    """Return a task with random non-zero weights, as after training, and a batch."""
    data, task = build(composed(f"network={name}", *SMALL[name], *overrides))
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mine, averaged in zip(task.model.parameters(), task.averaged.parameters(), strict=True):
            mine += 0.05 * torch.randn(mine.shape, generator=stream)
            averaged.copy_(mine)
    x = data.splits()["train"].x[:64]
    return task, Batch(x, torch.arange(len(x)))


def losses(task, batch, repeats=8):
    """Return training losses in nats/dim, shape (repeats, B), with dropout."""
    task.model.train()
    values = []
    for step in range(repeats):
        draws = Draws(0, step)
        draws.seed_torch()
        values.append(task.model.loss(batch, draws).value.detach())
    return torch.stack(values)


@pytest.mark.parametrize("name", options("network"))
class TestEveryNetwork:
    def test_loss_agrees_within_rounding(self, name):
        """With the same draws the mean difference is below bfloat16's relative rounding error, 2⁻⁹."""
        task, batch = trained(name)
        exact = losses(task, batch)
        FastNetworks(compile=False).on_train_start(None, task)
        fast = losses(task, batch)
        difference = fast - exact
        assert difference.abs().max() > 0
        assert difference.abs().mean() < 2**-9 * exact.abs().mean()

    def test_ema_model_is_unchanged(self, name):
        task, batch = trained(name)
        before = task.validation(task.evaluated, batch)
        FastNetworks(compile=False).on_train_start(None, task)
        assert torch.equal(task.validation(task.evaluated, batch), before)
        assert not any(part.low_precision for part in task.evaluated.modules() if isinstance(part, Backbone))

    def test_embedding_stem_and_head_stay_float32(self, name):
        task, batch = trained(name)
        FastNetworks(compile=False).on_train_start(None, task)
        network, seen = task.model.denoiser.network, {}
        for part in ("embedding.layers.0", "embedding.layers.2", "first", "last"):
            network.get_submodule(part).register_forward_hook(
                lambda module, inputs, output, part=part: seen.update({part: {inputs[0].dtype, output.dtype}})
            )
        losses(task, batch, repeats=1)
        assert set(map(frozenset, seen.values())) == {frozenset({torch.float32})}
        assert len(seen) == 4

    def test_weights_keep_names_and_dtypes(self, name):
        task, _ = trained(name)
        before = {key: value.dtype for key, value in task.state_dict().items()}
        FastNetworks().on_train_start(None, task)
        assert {key: value.dtype for key, value in task.state_dict().items()} == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
def test_compiled_blocks_keep_values_and_names():
    """Losses and gradients agree within float32 rounding. Without dropout, for which the compiler has its own generator."""
    task, batch = trained("vdm_unet", "model.denoiser.network.blocks=1", "model.denoiser.network.dropout=0.0")
    names = list(task.state_dict())

    def loss_and_gradients():
        task.model.zero_grad()
        loss = task.model.loss(batch, Draws(0)).value
        loss.mean().backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in task.model.parameters()])

    loss, gradients = loss_and_gradients()
    compile_blocks(task.model)
    compiled_loss, compiled_gradients = loss_and_gradients()
    assert list(task.state_dict()) == names
    assert torch.allclose(compiled_loss, loss, rtol=1e-4)
    assert (compiled_gradients - gradients).norm() < 1e-4 * gradients.norm()


def test_every_block_is_compiled_for_its_shape(monkeypatch):
    """A U-Net of three resolutions has more shapes than torch compiles by default, and none may become a dynamic shape.

    A counting backend replaces the compiler.
    """
    graphs, calls, compile = [], [], Block.compile

    def counting(graph, inputs):
        graphs.append(any(isinstance(n, torch.SymInt) for value in inputs for n in (value, *getattr(value, "shape", ()))))
        return lambda *values: calls.append(None) or graph.forward(*values)

    monkeypatch.setattr(Block, "compile", lambda block, **options: compile(block, backend=counting, **options))
    torch._dynamo.reset()
    network = build(composed(*DEEP)).task.model.denoiser.network.eval()  # eval: dropout is not compiled on a CPU
    compile_blocks(network)
    network(torch.randn(2, 1, 8, 8), torch.zeros(2))
    calls.clear()
    network(torch.randn(2, 1, 8, 8), torch.zeros(2))
    blocks = sum(isinstance(part, Block) for part in network.modules())
    assert len(calls) == blocks > len(graphs) > 8
    assert not any(graphs)


def test_fast_run_is_evaluated_in_float32(tmp_path):
    """Weights trained with trainer=fast evaluate to the same bound in a model built without it."""
    config = composed(
        "trainer=fast", "callbacks.fast.low_precision=true", "network=unet", *SMALL["unet"], "data.batch_size=32"
    )
    assert config.optimizer.fused
    assert instantiate(config.trainer, logger=False, enable_checkpointing=False).max_steps == config.trainer.max_steps
    data, task = build(config)
    before = copy.deepcopy(task.state_dict())
    settings = {"max_steps": 3, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(**settings, accelerator="cpu", callbacks=[instantiate(config.callbacks.fast)])
    trainer.fit(task, train_dataloaders=data.train_dataloader())
    assert task.model.denoiser.network.low_precision is torch.bfloat16
    after = task.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert {value.dtype for value in after.values() if value.is_floating_point()} <= {torch.float32, torch.float64}
    x = data.splits()["val"].x[:16]
    batch = Batch(x, torch.arange(len(x)))
    default = build(composed("network=unet", *SMALL["unet"])).task
    default.load_state_dict(after)
    assert torch.equal(task.validation(task.evaluated, batch), default.validation(default.evaluated, batch))


def test_fast_refuses_models_without_a_backbone():
    _, task = build(composed("model=hvae"))
    with pytest.raises(InvalidInput, match="trainer=default"):
        FastNetworks().on_train_start(None, task)


class TestDropout:
    def test_preserves_the_mean_and_drops_the_share(self):
        """The share of 10⁶ values has a standard error of √(p(1 − p)/10⁶) = 0.0003."""
        torch.manual_seed(0)
        y = Dropout(0.1)(torch.ones(1000, 1000))
        assert abs((y == 0).double().mean().item() - 0.1) < 4 * 0.0003
        assert y.unique().tolist() == pytest.approx([0, 1 / 0.9], rel=1e-4)

    @pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.5])
    def test_preserves_the_mean_in_bfloat16(self, p):
        """Rounding the factor 1/(1 − p) to bfloat16 would shift the mean by up to 2⁻⁹, seven standard errors at p = 0.1."""
        torch.manual_seed(0)
        y = Dropout(p)(torch.ones(2000, 1000, dtype=torch.bfloat16)).double()
        assert abs(y.mean().item() - 1) < 4 * y.std().item() / math.sqrt(y.numel())
        assert abs((y == 0).double().mean().item() - p) < 2**-8

    def test_is_the_identity_in_evaluation(self):
        x = torch.randn(10)
        assert torch.equal(Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize(("capabilities", "low"), [({"avx2": True}, None), ({"amx_bf16": True}, torch.bfloat16)])
def test_bfloat16_on_a_cpu_needs_instructions_for_it(capabilities, low, monkeypatch, capsys):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "bf16", "avx512_bf16": False, **capabilities})
    task, _ = trained("unet")
    callback = FastNetworks(low_precision="auto")
    callback.on_train_start(None, task)
    assert task.model.denoiser.network.low_precision is low
    callback.on_fit_start(SimpleNamespace(is_global_zero=True), task)
    assert ("no instructions" in capsys.readouterr().err) == (low is None)
