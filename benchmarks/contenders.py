"""Who takes part in ``speed.py``: training steps and denoiser calls on 3×32×32 images, each in its library's own way.

Every network has 2.1 to 2.5 million weights, the same dropout, and sees the same batch; every training step is noise, loss,
backward pass, clipping, AdamW and an average of the weights.
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
    """network: for its weights and its flops. step: one training step. sample: so many images in so many steps."""

    network: nn.Module
    step: Callable[[], object]
    sample: Callable[[int, int], object]
    model: VDM | None = None


def levels(batch: int, seed: int = 0) -> Tensor:
    """Smooth 8-bit images: random colours on a 4×4 grid, interpolated, with a little noise."""
    stream = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, SHAPE[0], 4, 4, generator=stream)
    smooth = nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear")
    return (256 * smooth + 4 * torch.randn(batch, *SHAPE, generator=stream)).clamp(0, 255).long()


def vdm_unet(outputs: int = 1) -> VDMUNet:
    """The official VDM's network, 64 channels and 8 levels."""
    return VDMUNet(SHAPE, channels=64, blocks=8, dropout=DROPOUT, fourier=FourierFeatures(), outputs=outputs, **ENDS)


def unet(outputs: int = 1) -> UNet:
    """The down-sampling network."""
    return UNet(SHAPE, channels=48, multipliers=(1, 2), blocks=2, attention=(16,), dropout=DROPOUT, outputs=outputs, **ENDS)


class Parts(NamedTuple):
    """What this project does for speed in a training step; each can be left out."""

    attention: bool = True
    """In the layout that the fused kernel takes."""
    dropout: bool = True
    """Four draws out of 64 random bits."""
    levels: bool = True
    """The K numbers a pixel in pieces that stay in the cache."""
    average: bool = True
    """All weights in one call."""
    fused: bool = True
    """AdamW in one kernel."""
    bfloat16: bool = True
    """The body of the network in training steps."""


FAST = Parts()


def own(network: Backbone, batch: int, parts: Parts = FAST, read: Parameterisation | None = None) -> Contender:
    """This project, ``trainer=fast``; with ``read``, or the parameterisation that the network's outputs fit."""
    many = network.outputs > 1
    read = read or (LevelPosteriorParameterisation(network.outputs) if many else ResidualNoiseParameterisation())
    for module in network.modules():
        if not parts.attention and isinstance(module, AttentionBlock):
            module.forward = plain_attention(module)  # type: ignore[method-assign]
        for name, child in module.named_children():
            if not parts.dropout and isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    model = VDM(
        LinearSchedule(-13.3, 5.0),
        Denoiser(network, read),
        CategoricalLikelihood(256),
        ContinuousTime(),
        StratifiedTimes(),
    )
    average = ExponentialAverage(model, 0.9999)
    if parts.bfloat16:
        network.low_precision = torch.bfloat16
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=parts.fused)
    data, number = Batch(levels(batch), torch.arange(batch)), iter(range(10**9))

    def step() -> None:
        at = next(number)
        draws = Draws(0, at)
        draws.seed_torch()
        cached, vdm.levels.CACHED = vdm.levels.CACHED, vdm.levels.CACHED if parts.levels else 10**12
        try:
            finish(model.loss(data, draws).value.mean(), model, optimizer)
        finally:
            vdm.levels.CACHED = cached
        if parts.average:
            average.update(model, at)
        else:
            follow(average.module, model)

    return Contender(network, step, lambda n, steps: average.module.sample(n, SHAPE, steps=steps), average.module)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module) -> None:
    """One weight after another."""
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1e-4)


def plain_attention(block: AttentionBlock) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = block.qkv(block.norm(x)).view(b, 3, block.heads, c // block.heads, h * w).transpose(-1, -2)
        attended = nn.functional.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + block.out(attended.transpose(-1, -2).reshape(b, c, h, w))

    return forward


def diffusers(batch: int) -> Contender:
    """UNet2DModel and DDPM, as in the library's unconditional training example."""
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
    x = levels(batch).float() / 127.5 - 1

    def step() -> None:
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (batch,))
        finish((network(scheduler.add_noise(x, noise, t), t).sample - noise).square().mean(), network, optimizer)
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
    """Unet and ContinuousTimeGaussianDiffusion, with the steps of the library's Trainer."""
    from denoising_diffusion_pytorch import ContinuousTimeGaussianDiffusion, Unet
    from ema_pytorch import EMA

    network = Unet(dim=40, dim_mults=(1, 2, 2), channels=3, learned_sinusoidal_cond=True, dropout=DROPOUT)
    diffusion = ContinuousTimeGaussianDiffusion(network, image_size=32)
    average = EMA(diffusion, beta=0.9999, update_every=10)
    optimizer = torch.optim.AdamW(diffusion.parameters(), lr=1e-4)
    x = levels(batch).float() / 255

    def step() -> None:
        finish(diffusion(x), diffusion, optimizer)
        average.update()

    def sample(n: int, steps: int) -> Tensor:
        diffusion.num_sample_steps = steps
        return diffusion.sample(batch_size=n)

    return Contender(network, step, sample)


def finish(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """From the loss to the weights."""
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


DEFAULT = Parts(fused=False, bfloat16=False)
PLAIN = Parts(*(False for _ in Parts._fields))
"""A step as it is commonly written: eager, float32."""

CONTENDERS: dict[str, Callable[[int], Contender]] = {
    "VDM U-Net, plain eager float32": lambda batch: own(vdm_unet(), batch, PLAIN),
    "VDM U-Net, trainer=default": lambda batch: own(vdm_unet(), batch, DEFAULT),
    "VDM U-Net, trainer=fast": lambda batch: own(vdm_unet(), batch),
    "U-Net, trainer=default": lambda batch: own(unet(), batch, DEFAULT),
    "U-Net, trainer=fast": lambda batch: own(unet(), batch),
    "VDM U-Net of levels, plain eager float32": lambda batch: own(vdm_unet(256), batch, PLAIN),
    "VDM U-Net of levels, trainer=default": lambda batch: own(vdm_unet(256), batch, DEFAULT),
    "VDM U-Net of levels, trainer=fast": lambda batch: own(vdm_unet(256), batch),
    "VDM U-Net, rounded, trainer=default": lambda batch: own(vdm_unet(), batch, DEFAULT, RoundedParameterisation(0.5, 256)),
    "VDM U-Net, rounded, trainer=fast": lambda batch: own(vdm_unet(), batch, read=RoundedParameterisation(0.5, 256)),
    "diffusers": diffusers,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
}
"""By name; the first is what the others are compared with."""

PARTS: dict[str, Callable[[int], Contender]] = {
    "all of trainer=fast": lambda batch: own(vdm_unet(256), batch),
    **{
        f"without {part}": lambda batch, part=part: own(vdm_unet(256), batch, FAST._replace(**{part: False}))
        for part in Parts._fields
    },
}
"""What each part is worth to the VDM U-Net of levels."""


def changed(batch: int, change: Callable[[nn.Module], object]) -> Contender:
    contender = own(vdm_unet(), batch)
    change(contender.network)
    return contender


TRIED: dict[str, Callable[[int], Contender]] = {
    "trainer=fast on a CPU": lambda batch: own(vdm_unet(), batch),
    "… in channels-last layout": lambda batch: changed(batch, lambda net: net.to(memory_format=torch.channels_last)),
    "… the whole network compiled": lambda batch: changed(batch, lambda net: net.compile()),
}
"""What the VDM U-Net does without, on a CPU."""
