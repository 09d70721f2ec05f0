"""Images: grids of examples, points over a density, and captions."""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def to_bytes(x: Tensor, levels: int) -> Tensor:
    """Convert integer levels 0 … K − 1 to uint8 grey values 0 … 255."""
    return (x.double() * 255 / (levels - 1)).round().clamp(0, 255).to(torch.uint8)


def image_grid(x: Tensor, levels: int, columns: int = 8, least_side: int = 64) -> Image.Image:
    """Return images (n, C, H, W) of integer levels, C = 1 or 3, in rows of ``columns`` with a thin border.

    Small images are magnified by an integer factor, without smoothing, to a height of at least ``least_side`` pixels.
    """
    n, channels, height = x.shape[:3]
    rows = -(-n // columns)
    factor = max(1, -(-least_side // height))
    tile = to_bytes(x, levels).cpu().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    border = max(1, factor // 4)
    tall, wide = tile.shape[2] + border, tile.shape[3] + border
    canvas = torch.full((channels, rows * tall + border, columns * wide + border), 96, dtype=torch.uint8)
    for i, image in enumerate(tile):
        top, left = (i // columns) * tall + border, (i % columns) * wide + border
        canvas[:, top : top + tile.shape[2], left : left + tile.shape[3]] = image
    array = canvas.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def stack_images(pictures: Sequence[Image.Image]) -> Image.Image:
    """Stack pictures from top to bottom."""
    canvas = Image.new(pictures[0].mode, (max(p.width for p in pictures), sum(p.height for p in pictures)))
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas


def with_captions(picture: Image.Image, captions: Sequence[str]) -> Image.Image:
    """Add a line of captions above a picture, each centred in an equal share of the width."""
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 12)
    canvas = Image.new(picture.mode, (picture.width, picture.height + 20), "white")
    canvas.paste(picture, (0, 20))
    pen, share = ImageDraw.Draw(canvas), picture.width / len(captions)
    for i, caption in enumerate(captions):
        pen.text(((i + 0.5) * share, 10), caption, fill="black", font=font, anchor="mm")
    return canvas


def density_picture(x: Tensor, log_prob: Callable[[Tensor], Tensor], reach: float = 2.5, cells: int = 200) -> Image.Image:
    """Draw a density on the square [−reach, reach]², and beside it points (n, 2) over a faint copy of it.

    The title counts the points outside the square.
    """
    side = torch.linspace(-reach, reach, cells, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side).flip(1)
    heights = log_prob(grid).exp().view(cells, cells).numpy()
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    truth, points = figure.subplots(1, 2, sharey=True)
    extent = (-reach, reach, -reach, reach)
    truth.imshow(heights, origin="lower", extent=extent, cmap="viridis")
    truth.set_title("density")
    points.imshow(heights, origin="lower", extent=extent, cmap="Greys", alpha=0.35)
    points.scatter(*x.cpu().double().unbind(1), s=3, alpha=0.6, linewidths=0, color="tab:red")
    points.set_xlim(-reach, reach)
    points.set_ylim(-reach, reach)
    outside = int((~(x.abs() <= reach)).any(1).sum())
    points.set_title(f"{len(x)} samples" + (f", {outside} outside" if outside else ""))
    return render(figure)


def render(figure: Figure, dpi: int = 100) -> Image.Image:
    """Render a figure as an image, and clear the figure."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    figure.clear()  # a figure refers to itself and would hold megabytes until garbage collection
    del canvas.renderer
    return picture
