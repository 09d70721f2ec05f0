"""``vdm-sample ckpt=… n=64``: samples of a trained model."""

import io

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm.auto import tqdm

from vdm.cli import command, screen
from vdm.cli.build import quiet, restore
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput
from vdm.models import VDM
from vdm.training.run_folder import RunFolder, write_atomically


@torch.inference_mode()
def sample(config: DictConfig) -> None:
    """Writes samples.png and samples.npz; sample i is the same for every n and batch size."""
    quiet()
    if config.n < 1 or config.batch_size < 1:
        raise InvalidInput(f"n and batch_size must be at least 1, got n={config.n} batch_size={config.batch_size}")
    (data, task), checkpoint = restore(config.ckpt, config.ema, {})
    use_gpu = torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if use_gpu else "cpu")
    model = task.evaluated.to(device).eval()
    assert isinstance(model, VDM)
    steps = config.steps or model.default_steps
    chunks, conditions = torch.arange(config.n).split(config.batch_size), data.sampling_condition(config.n)
    finished = []
    with tqdm(total=len(chunks) * (steps + 1), desc="sampling", unit="step", dynamic_ncols=True) as bar:
        for index in chunks:
            draws = ExampleDraws(index, config.seed)
            condition = None if conditions is None else conditions[index].to(device)
            for x_t in model.trajectory(len(index), data.event_shape, steps=steps, draws=draws, condition=condition):
                x_1 = x_t
                bar.update()
            finished.append(model.decode(x_1, draws, condition).cpu())
    x = torch.cat(finished)
    folder = RunFolder(config.output_dir)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    picture = folder.pictures / "samples.png"
    data.picture(x[:256]).save(picture)
    archive, buffer = folder.root / "samples.npz", io.BytesIO()
    np.savez_compressed(buffer, x=x.numpy())
    write_atomically(archive, buffer.getvalue())
    lines = [f"{picture} (the first {min(config.n, 256)})", f"{archive} (x: {tuple(x.shape)}, {x.dtype})"]
    screen.show(screen.listing(f"{config.n} samples in {steps} steps, weights of step {checkpoint.step}", lines))


def main() -> None:
    command.run("sample", sample)
