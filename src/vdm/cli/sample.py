"""``vdm-sample ckpt=… n=64 sampler=dpm_solver steps=20``: samples of a trained model."""

import io

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm.auto import tqdm

from vdm.bound import VariationalModel
from vdm.cli import command
from vdm.cli.build import restore
from vdm.cli.command import device_of, quiet
from vdm.data import DataModule
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput, at_least, at_most
from vdm.evaluation.samples.images import draw_trajectory
from vdm.models import VDM
from vdm.networks.blocks import compile_blocks
from vdm.reports import console
from vdm.runs.files import write_atomically
from vdm.runs.folder import RunFolder


@torch.inference_mode()
def sample(config: DictConfig) -> None:
    """Writes pictures and samples.npz; sample i is the same for every n and batch size."""
    quiet()
    at_least(1, n=config.n, batch_size=config.batch_size)
    at_most(n=config.n, batch_size=config.batch_size)
    chosen = {name: OmegaConf.select(config, name) for name in ("model.sampling.sampler", "model.sampling.spacing")}
    (data, task), checkpoint = restore(config.ckpt, config.ema, chosen, config.trust)
    device = device_of(config.accelerator)
    model = task.evaluated.to(device).eval()
    if config.compile:
        compile_blocks(model)
    folder = RunFolder(config.output_dir)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    grid, way = folder.pictures / "samples.png", folder.pictures / "trajectory.png"
    archive, buffer = folder.samples, io.BytesIO()
    lines = [f"{console.near(grid)} (the first {min(config.n, 256)})"]
    if isinstance(model, VDM):
        steps = model.default_steps if config.steps is None else config.steps
        x = step_by_step(model, data, config, steps, device)
        draw_trajectory(model, data, config.seed, steps).save(way)
        lines.append(f"{console.near(way)} (from noise to data, and below it what the denoiser sees)")
        heading = f"{config.n} samples in {steps} steps of {type(model.sampling.sampler).__name__}"
    else:
        x = in_batches(model, data, config, device)
        heading = f"{config.n} samples"
    data.picture(x[:256]).save(grid)
    np.savez_compressed(buffer, x=x.numpy())
    write_atomically(archive, buffer.getvalue())
    lines.append(f"{console.near(archive)} (x: {tuple(x.shape)}, {x.dtype})")
    console.show(console.listing(f"{heading}, weights of step {checkpoint.step}", lines))


def step_by_step(model: VDM, data: DataModule, config: DictConfig, steps: int, device: torch.device) -> Tensor:
    """Samples of a diffusion model, with a bar over the steps."""
    chunks, conditions = torch.arange(config.n).split(config.batch_size), data.sampling_condition(config.n)
    finished = []
    with tqdm(total=len(chunks) * (steps + 1), desc="sampling", unit="step", dynamic_ncols=True) as bar:
        for index in chunks:
            draws = ExampleDraws(index, config.seed)
            condition = None if conditions is None else conditions[index].to(device)
            latents = model.trajectory(len(index), data.event_shape, steps=steps, draws=draws, condition=condition)
            for latent in latents:
                x_1 = latent.x_t
                bar.update()
            finished.append(model.decode(x_1, draws, condition).cpu())
    return torch.cat(finished)


def in_batches(model: VariationalModel, data: DataModule, config: DictConfig, device: torch.device) -> Tensor:
    """Samples of any other model.

    Raises:
        InvalidInput: steps, which only a diffusion model has.
    """
    if config.steps is not None:
        raise InvalidInput(f"steps= is for diffusion models, and this is a {type(model).__name__}: leave it out")
    conditions, finished = data.sampling_condition(config.n), []
    for index in tqdm(torch.arange(config.n).split(config.batch_size), desc="sampling", unit="batch", dynamic_ncols=True):
        condition = None if conditions is None else conditions[index].to(device)
        finished.append(
            model.sample(len(index), data.event_shape, draws=ExampleDraws(index, config.seed), condition=condition)
        )
    return torch.cat(finished).cpu()


def main() -> None:
    command.run(
        "sample",
        sample,
        {"ckpt": str, "n": int, "steps": int | None, "batch_size": int, "ema": bool, "seed": int, "accelerator": str}
        | {"compile": bool},
    )
