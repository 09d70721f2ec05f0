"""Images of a diffusion model, drawn after the test."""

from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.evaluation.samples.images import draw_denoised, draw_noising, draw_trajectory, noised_examples
from vdm.models import DiffusionModel
from vdm.training.callbacks.final_images import FinalImages


class DiffusionImages(FinalImages):
    """Draw noising.png, denoised.png and trajectory.png for diffusion models."""

    def draw(self, model: VariationalModel, data: DataModule) -> dict[str, Image.Image]:
        if not isinstance(model, DiffusionModel):
            return {}
        noising = noised_examples(model, data, self.seed)
        return {
            "noising": draw_noising(model, data, noising),
            "denoised": draw_denoised(model, data, noising),
            "trajectory": draw_trajectory(model, data, self.seed),
        }
