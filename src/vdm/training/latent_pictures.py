"""What the latents of a hierarchical model hold, as pictures: reconstructions and traversals."""

import torch
from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import InMemoryData
from vdm.draws import ExampleDraws
from vdm.models import LatentModel
from vdm.training.media import FinalPictures

COLUMNS = 8


def draw_reconstructions(model: LatentModel, data: InMemoryData, seed: int, each: int = 3) -> Image.Image:
    """Test examples in the first row, below each ``each`` draws of x̃ ~ p(x | z), z ~ q(z | x)."""
    x = data.splits()["test"].x[:COLUMNS].to(next(model.parameters()).device)
    rows = [x]
    for repeat in range(each):
        draws = ExampleDraws(torch.arange(len(x)), seed, repeat)
        rows.append(model.generate(model.latents(x, draws), draws))
    return data.picture(torch.cat(rows).cpu())


def draw_traversals(model: LatentModel, data: InMemoryData, seed: int) -> Image.Image:
    """One row a layer, z_1 first: the first test example with z_t's most informative coordinate from −3 to 3."""
    x = data.splits()["test"].x[:1].repeat(COLUMNS, *[1] * len(data.event_shape)).to(next(model.parameters()).device)
    draws, reach = (
        ExampleDraws(torch.zeros(COLUMNS, dtype=torch.long), seed),
        torch.linspace(-3, 3, COLUMNS, device=x.device),
    )
    rows = [model.traverse(x, t, reach, draws) for t in range(1, model.layers + 1)]
    return data.picture(torch.cat(rows).cpu())


class LatentPictures(FinalPictures):
    """reconstructions.png and traversals.png, of models that have latents of images."""

    def draw(self, model: VariationalModel, data: InMemoryData) -> dict[str, Image.Image]:
        if not (isinstance(model, LatentModel) and len(data.event_shape) == 3):
            return {}
        return {
            "reconstructions": draw_reconstructions(model, data, self.seed),
            "traversals": draw_traversals(model, data, self.seed),
        }
