"""What the latents of a hierarchical model hold, as pictures: reconstructions and traversals."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from vdm.data import InMemoryData
from vdm.draws import ExampleDraws
from vdm.models import LatentModel
from vdm.training.media import show
from vdm.training.module import VariationalTask

COLUMNS = 8


def draw_reconstructions(model: LatentModel, data: InMemoryData, seed: int, each: int = 3) -> Image.Image:
    """Test examples in the first row, below each ``each`` draws of x̃ ~ p(x | z), z ~ q(z | x)."""
    x = data.splits()["test"].x[:COLUMNS]
    rows = [x]
    for repeat in range(each):
        draws = ExampleDraws(torch.arange(len(x)), seed, repeat)
        rows.append(model.generate(model.latents(x, draws), draws))
    return data.picture(torch.cat(rows))


def draw_traversals(model: LatentModel, data: InMemoryData, seed: int) -> Image.Image:
    """One row a layer, z_1 first: the first test example with z_t's most informative coordinate from −3 to 3."""
    x = data.splits()["test"].x[:1].repeat(COLUMNS, *[1] * len(data.event_shape))
    draws, reach = ExampleDraws(torch.zeros(COLUMNS, dtype=torch.long), seed), torch.linspace(-3, 3, COLUMNS)
    return data.picture(torch.cat([model.traverse(x, t, reach, draws) for t in range(1, model.layers + 1)]))


class LatentPictures(Callback):
    """Writes reconstructions.png and traversals.png after the test, of the evaluated model, if it has latents of images.

    Args:
        folder: where the pictures go.
        seed: of the draws.
    """

    def __init__(self, folder: str, seed: int = 0) -> None:
        self.folder, self.seed = Path(folder), seed

    def on_test_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        model, data = pl_module.evaluated, trainer.datamodule  # type: ignore[attr-defined]
        if not (trainer.is_global_zero and isinstance(model, LatentModel) and len(data.event_shape) == 3):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, draw in (("reconstructions", draw_reconstructions), ("traversals", draw_traversals)):
            picture = draw(model, data, self.seed)
            picture.save(self.folder / f"{name}.png")
            show(trainer, f"pictures/{name}", lambda picture=picture: picture)  # type: ignore[misc]
