"""``vdm-sample ckpt=… n=64 sampler=dpm_solver steps=20``: samples of a trained model."""

import io

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vdm.bars import counting_bar
from vdm.cli import command, entry, machine
from vdm.cli.preflight import check_resources
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput, at_least, at_most
from vdm.evaluation.samples.images import draw_trajectory, levels_of
from vdm.models import DiffusionModel
from vdm.networks.blocks import compile_blocks
from vdm.reports import console
from vdm.runs.files import write_atomically, write_png
from vdm.runs.folder import RunFolder
from vdm.runs.load import LoadedRun, load_run


@torch.inference_mode()
def sample(config: DictConfig) -> None:
    """Write images and samples.npz; sample i is the same for every n and batch size."""
    run = _prepare(config)
    folder, heading, listed = RunFolder(config.output_dir), f"{config.n} samples", list[str]()
    folder.pictures.mkdir(parents=True, exist_ok=True)
    if isinstance(run.model, DiffusionModel):
        steps = run.model.default_steps if config.steps is None else config.steps
        x = _step_by_step(run.model, run, config, steps)
        heading = f"{heading} in {steps} steps of {type(run.model.sampling.sampler).__name__}"
        path = folder.pictures / "trajectory.png"
        write_png(path, draw_trajectory(run.model, run.data, config.seed, steps))
        listed = [f"{console.short_path(path)} (from noise to data; below each latent, what the denoiser predicts)"]
    else:
        x = _in_batches(run, config)
    grid = folder.pictures / "samples.png"
    write_png(grid, run.data.picture(x[:256], levels_of(run.model)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x.numpy())
    write_atomically(folder.samples, buffer.getvalue())
    first = f"{console.short_path(grid)} (the first {min(len(x), 256)})"
    last = f"{console.short_path(folder.samples)} (x: {tuple(x.shape)}, {x.dtype})"
    console.show(console.listing(f"{heading}, weights of step {run.checkpoint.step}", [first, *listed, last]))


def _prepare(config: DictConfig) -> LoadedRun:
    """Load the run, with its model on the device."""
    at_least(1, n=config.n, batch_size=config.batch_size)
    at_most(n=config.n, batch_size=config.batch_size)
    chosen = {name: OmegaConf.select(config, name) for name in ("model.sampling.sampler", "model.sampling.spacing")}
    check_resources(config.data)
    run = load_run(config.ckpt, config.ema, command.data_changes(config) | chosen, config.trust)
    run.model.to(machine.device_of(config.accelerator))
    if config.compile:
        compile_blocks(run.model)
    return run


def _step_by_step(model: DiffusionModel, run: LoadedRun, config: DictConfig, steps: int) -> Tensor:
    """Draw samples (n, *event) of a diffusion model, with a progress bar over the steps."""
    chunks, conditions = torch.arange(config.n).split(config.batch_size), run.data.sampling_condition(config.n)
    finished = []
    with counting_bar("sampling", len(chunks) * (steps + 1), "step") as bar:
        for index in chunks:
            draws = ExampleDraws(index, config.seed)
            condition = None if conditions is None else conditions[index].to(run.device)
            latents = model.trajectory(len(index), run.data.event_shape, steps=steps, draws=draws, condition=condition)
            for latent in latents:
                x_1 = latent.x_t
                bar.update()
            finished.append(model.decode(x_1, draws, condition).cpu())
    return torch.cat(finished)


def _in_batches(run: LoadedRun, config: DictConfig) -> Tensor:
    """Draw samples (n, *event) of any other model, which takes no ``steps``, with a progress bar over the batches."""
    if config.steps is not None:
        raise InvalidInput(f"steps= is for diffusion models, and this is a {type(run.model).__name__}: leave it out")
    conditions, finished = run.data.sampling_condition(config.n), []
    chunks = torch.arange(config.n).split(config.batch_size)
    for index in counting_bar("sampling", len(chunks), "batch", iterable=chunks):
        condition, draws = None if conditions is None else conditions[index].to(run.device), ExampleDraws(index, config.seed)
        finished.append(run.model.sample(len(index), run.data.event_shape, draws=draws, condition=condition))
    return torch.cat(finished).cpu()


main = entry.sample
