"""Images of a latent-variable model, drawn after the test."""

from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.evaluation.samples.images import draw_reconstructions, draw_traversals
from vdm.models import LatentModel
from vdm.training.callbacks.final_images import FinalImages


class LatentImages(FinalImages):
    """Draw reconstructions.png and traversals.png for latent-variable models of images."""

    def draw(self, model: VariationalModel, data: DataModule) -> dict[str, Image.Image]:
        if not (isinstance(model, LatentModel) and len(data.event_shape) == 3):
            return {}
        return {
            "reconstructions": draw_reconstructions(model, data, self.seed),
            "traversals": draw_traversals(model, data, self.seed),
        }
