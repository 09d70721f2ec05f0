"""``vdm-sample ckpt=… n=64 sampler=dpm_solver steps=20``: samples of a trained model."""

import io

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm.auto import tqdm

from vdm.cli import command, screen
from vdm.cli.build import quiet, restore
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput
from vdm.models import VDM
from vdm.pictures import stacked
from vdm.training.run_folder import RunFolder, write_atomically

FRAMES = 9
"""Pictures of a trajectory, from pure noise to the last latent."""


@torch.inference_mode()
def sample(config: DictConfig) -> None:
    """Writes samples.png, trajectory.png and samples.npz; sample i is the same for every n and batch size."""
    quiet()
    if config.n < 1 or config.batch_size < 1:
        raise InvalidInput(f"n and batch_size must be at least 1, got n={config.n} batch_size={config.batch_size}")
    chosen = {name: OmegaConf.select(config, name) for name in ("model.sampling.sampler", "model.sampling.spacing")}
    (data, task), checkpoint = restore(config.ckpt, config.ema, chosen)
    use_gpu = torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if use_gpu else "cpu")
    model = task.evaluated.to(device).eval()
    assert isinstance(model, VDM)
    steps = model.default_steps if config.steps is None else config.steps
    chunks, conditions = torch.arange(config.n).split(config.batch_size), data.sampling_condition(config.n)
    shown = {round(steps * i / (FRAMES - 1)) for i in range(FRAMES)}
    finished, frames = [], []
    with tqdm(total=len(chunks) * (steps + 1), desc="sampling", unit="step", dynamic_ncols=True) as bar:
        for index in chunks:
            draws = ExampleDraws(index, config.seed)
            condition = None if conditions is None else conditions[index].to(device)
            latents = model.trajectory(len(index), data.event_shape, steps=steps, draws=draws, condition=condition)
            for number, latent in enumerate(latents):
                if index[0] == 0 and number in shown:
                    frames.append(data.picture(model.guess(latent, condition)[:8].cpu()))
                bar.update()
            finished.append(model.decode(latent.x_t, draws, condition).cpu())
    x = torch.cat(finished)
    folder = RunFolder(config.output_dir)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    grid, way = folder.pictures / "samples.png", folder.pictures / "trajectory.png"
    data.picture(x[:256]).save(grid)
    stacked(frames).save(way)
    archive, buffer = folder.root / "samples.npz", io.BytesIO()
    np.savez_compressed(buffer, x=x.numpy())
    write_atomically(archive, buffer.getvalue())
    lines = [
        f"{grid} (the first {min(config.n, 256)})",
        f"{way} (the first {min(config.n, 8)}: what the denoiser sees at {len(frames)} times, from noise down to data)",
        f"{archive} (x: {tuple(x.shape)}, {x.dtype})",
    ]
    rule = type(model.sampling.sampler).__name__
    heading = f"{config.n} samples in {steps} steps of {rule}, weights of step {checkpoint.step}"
    screen.show(screen.listing(heading, lines))


def main() -> None:
    command.run("sample", sample)
