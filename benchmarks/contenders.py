"""The libraries and settings that ``speed.py`` compares: training steps and samplers on 3×32×32 images.

Every network has 2.1 to 2.5 million weights, the same dropout, and the same batch. Every training step is noise, loss,
backward pass, clipping, AdamW and an average of the weights, written as in the library's own examples.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import vdm.levels
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import Backbone, FourierFeatures, UNet, VDMUNet
from vdm.networks.blocks import AttentionBlock, Dropout
from vdm.parameterisations import (
    LevelPosteriorParameterisation,
    Parameterisation,
    ResidualNoiseParameterisation,
    RoundedParameterisation,
)
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes
from vdm.training.ema import ExponentialAverage

SHAPE = (3, 32, 32)
ENDS = {"gamma_min": -13.3, "gamma_max": 5.0}
DROPOUT = 0.1


class Contender(NamedTuple):
    """One row of a comparison.

    Attributes:
        network: whose weights and flops are counted.
        step: one training step.
        sample: draw n images in a number of steps.
        model: for the bound; None for other libraries.
    """

    network: nn.Module
    step: Callable[[], object]
    sample: Callable[[int, int], object]
    model: VDM | None = None


def smooth_images(batch: int, seed: int = 0) -> Tensor:
    """Return 8-bit images: random colours on a 4×4 grid, interpolated, with a little noise."""
    stream = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, SHAPE[0], 4, 4, generator=stream)
    smooth = nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear")
    return (256 * smooth + 4 * torch.randn(batch, *SHAPE, generator=stream)).clamp(0, 255).long()


def vdm_unet(outputs: int = 1) -> VDMUNet:
    """Return the network of the official VDM with 64 channels and 8 blocks."""
    return VDMUNet(SHAPE, channels=64, blocks=8, dropout=DROPOUT, fourier=FourierFeatures(), outputs=outputs, **ENDS)


def unet(outputs: int = 1) -> UNet:
    """Return the down-sampling U-Net."""
    return UNet(SHAPE, channels=48, multipliers=(1, 2), blocks=2, attention=(16,), dropout=DROPOUT, outputs=outputs, **ENDS)


class Optimisations(NamedTuple):
    """Optimisations of a training step that can be switched off one by one.

    Attributes:
        attention: the tensor layout of the fused kernel.
        dropout: four draws from 64 random bits.
        levels: K numbers a pixel in chunks that fit into the cache.
        average: all weights in one call.
        fused: AdamW in one kernel.
        bfloat16: the network's trunk in bfloat16.
    """

    attention: bool = True
    dropout: bool = True
    levels: bool = True
    average: bool = True
    fused: bool = True
    bfloat16: bool = True


FAST = Optimisations()


def vdm_model(network: Backbone, parameterisation: Parameterisation | None) -> VDM:
    """Return a VDM with ``parameterisation``, or the default for the network's number of outputs."""
    if parameterisation is None:
        levels = network.outputs
        parameterisation = LevelPosteriorParameterisation(levels) if levels > 1 else ResidualNoiseParameterisation()
    denoiser = Denoiser(network, parameterisation)
    return VDM(LinearSchedule(-13.3, 5.0), denoiser, CategoricalLikelihood(256), ContinuousTime(), StratifiedTimes())


def own(
    network: Backbone, batch: int, enabled: Optimisations = FAST, parameterisation: Parameterisation | None = None
) -> Contender:
    """Return the contender of this project, ``trainer=fast`` by default."""
    replace_layers(network, enabled)
    model = vdm_model(network, parameterisation)
    average = ExponentialAverage(model, 0.9999)
    if enabled.bfloat16:
        network.low_precision = torch.bfloat16
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=enabled.fused)
    data, numbers = Batch(smooth_images(batch), torch.arange(batch)), iter(range(10**9))

    def step() -> None:
        number = next(numbers)
        draws = Draws(0, number)
        draws.seed_torch()
        cached, vdm.levels.CACHED = vdm.levels.CACHED, vdm.levels.CACHED if enabled.levels else 10**12
        try:
            update_weights(model.loss(data, draws).value.mean(), model, optimizer)
        finally:
            vdm.levels.CACHED = cached
        if enabled.average:
            average.update(model, number)
        else:
            average_in_a_loop(average.module, model)

    return Contender(network, step, lambda n, steps: average.module.sample(n, SHAPE, steps=steps), average.module)


def replace_layers(network: nn.Module, enabled: Optimisations) -> None:
    """Replace the optimised attention and dropout layers that are switched off."""
    for module in network.modules():
        if not enabled.attention and isinstance(module, AttentionBlock):
            module.forward = plain_attention(module)  # type: ignore[method-assign]
        for name, child in module.named_children():
            if not enabled.dropout and isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))


@torch.no_grad()
def average_in_a_loop(average: nn.Module, model: nn.Module) -> None:
    """Update the averaged weights with one call for each tensor."""
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1e-4)


def plain_attention(block: AttentionBlock) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of ``block`` with heads split by a transpose."""

    def forward(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = block.qkv(block.norm(x)).view(b, 3, block.heads, c // block.heads, h * w).transpose(-1, -2)
        attended = nn.functional.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + block.out(attended.transpose(-1, -2).reshape(b, c, h, w))

    return forward


def diffusers(batch: int) -> Contender:
    """Return UNet2DModel with DDPM, as in the library's unconditional training example."""
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    network = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(64, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        dropout=DROPOUT,
    )
    scheduler, average = DDPMScheduler(1000), EMAModel(network.parameters(), 0.9999)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    x = smooth_images(batch).float() / 127.5 - 1

    def step() -> None:
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (batch,))
        update_weights((network(scheduler.add_noise(x, noise, t), t).sample - noise).square().mean(), network, optimizer)
        average.step(network.parameters())

    @torch.no_grad()
    def sample(n: int, steps: int) -> Tensor:
        scheduler.set_timesteps(steps)
        x_t = torch.randn(n, *SHAPE)
        for t in scheduler.timesteps:
            x_t = scheduler.step(network(x_t, t).sample, t, x_t).prev_sample
        return x_t

    return Contender(network, step, sample)


def denoising_diffusion_pytorch(batch: int) -> Contender:
    """Return Unet with ContinuousTimeGaussianDiffusion, and the steps of the library's Trainer."""
    from denoising_diffusion_pytorch import ContinuousTimeGaussianDiffusion, Unet
    from ema_pytorch import EMA

    network = Unet(dim=40, dim_mults=(1, 2, 2), channels=3, learned_sinusoidal_cond=True, dropout=DROPOUT)
    diffusion = ContinuousTimeGaussianDiffusion(network, image_size=32)
    average = EMA(diffusion, beta=0.9999, update_every=10)
    optimizer = torch.optim.AdamW(diffusion.parameters(), lr=1e-4)
    x = smooth_images(batch).float() / 255

    def step() -> None:
        update_weights(diffusion(x), diffusion, optimizer)
        average.update()

    def sample(n: int, steps: int) -> Tensor:
        diffusion.num_sample_steps = steps
        return diffusion.sample(batch_size=n)

    return Contender(network, step, sample)


def update_weights(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Run the backward pass, clipping and the optimiser."""
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


DEFAULT = FAST._replace(fused=False, bfloat16=False)
PLAIN = Optimisations(*(False for _ in Optimisations._fields))
"""Common practice: eager, float32, no optimisation."""

ROUNDED = RoundedParameterisation(0.5, 256)

CONTENDERS: dict[str, Callable[[int], Contender]] = {
    "VDM U-Net, plain eager float32": lambda batch: own(vdm_unet(), batch, PLAIN),
    "VDM U-Net, trainer=default": lambda batch: own(vdm_unet(), batch, DEFAULT),
    "VDM U-Net, trainer=fast": lambda batch: own(vdm_unet(), batch),
    "U-Net, trainer=default": lambda batch: own(unet(), batch, DEFAULT),
    "U-Net, trainer=fast": lambda batch: own(unet(), batch),
    "VDM U-Net of levels, plain eager float32": lambda batch: own(vdm_unet(256), batch, PLAIN),
    "VDM U-Net of levels, trainer=default": lambda batch: own(vdm_unet(256), batch, DEFAULT),
    "VDM U-Net of levels, trainer=fast": lambda batch: own(vdm_unet(256), batch),
    "VDM U-Net, rounded, trainer=default": lambda batch: own(vdm_unet(), batch, DEFAULT, ROUNDED),
    "VDM U-Net, rounded, trainer=fast": lambda batch: own(vdm_unet(), batch, FAST, ROUNDED),
    "diffusers": diffusers,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
}
"""By name; the others are compared with the first."""

ABLATIONS: dict[str, Callable[[int], Contender]] = {
    "all of trainer=fast": lambda batch: own(vdm_unet(256), batch),
    **{
        f"without {name}": lambda batch, name=name: own(vdm_unet(256), batch, FAST._replace(**{name: False}))
        for name in Optimisations._fields
    },
}
"""The VDM U-Net of levels without one optimisation each."""


def modified(batch: int, change: Callable[[nn.Module], object]) -> Contender:
    """Return ``trainer=fast`` after ``change`` of its network."""
    contender = own(vdm_unet(), batch)
    change(contender.network)
    return contender


TRIED: dict[str, Callable[[int], Contender]] = {
    "trainer=fast on a CPU": lambda batch: own(vdm_unet(), batch),
    "… in channels-last layout": lambda batch: modified(batch, lambda net: net.to(memory_format=torch.channels_last)),
    "… the whole network compiled": lambda batch: modified(batch, lambda net: net.compile()),
}
"""Changes of the VDM U-Net that did not make it faster on a CPU."""
