"""Images: grids of examples, points over a density, and captions."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CAPTION_HEIGHT, LABEL_WIDTH = 20, 44
"""Pixels of the line of captions above a picture, and of the labels to its left."""

REACH = 2.5
"""Half the side of the square on which points of the plane are drawn."""


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


def tile(pictures: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Set pictures of one size beside and below each other."""
    wide, tall = pictures[0][0].size
    canvas = Image.new(pictures[0][0].mode, (wide * len(pictures[0]), tall * len(pictures)))
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            canvas.paste(picture, (j * wide, i * tall))
    return canvas


def labelled(picture: Image.Image, captions: Sequence[str], rows: Sequence[str] = ()) -> Image.Image:
    """Add captions above equal shares of a picture's width, and labels to the left of equal shares of its height."""
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 12)
    left = LABEL_WIDTH if any(rows) else 0
    canvas = Image.new(picture.mode, (picture.width + left, picture.height + CAPTION_HEIGHT), "white")
    canvas.paste(picture, (left, CAPTION_HEIGHT))
    pen = ImageDraw.Draw(canvas)
    for i, caption in enumerate(captions):
        place = (left + (i + 0.5) * picture.width / len(captions), CAPTION_HEIGHT / 2)
        pen.text(place, caption, fill="black", font=font, anchor="mm")
    for i, label in enumerate(rows):
        place = (left / 2, CAPTION_HEIGHT + (i + 0.5) * picture.height / len(rows))
        pen.text(place, label, fill="black", font=font, anchor="mm")
    return canvas


def points_over_time(
    rows: Mapping[str, Sequence[Tensor]], captions: Sequence[str], log_prob: Callable[[Tensor], Tensor]
) -> Image.Image:
    """Draw points (n, 2) over a faint copy of their density: one panel for each caption, one line of panels for each row."""
    figure = Figure(figsize=(1.5 * len(captions) + 0.4, 1.5 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(captions), squeeze=False, sharex=True, sharey=True)
    heights = _density(log_prob, REACH, cells=100)
    for line, (label, frames) in zip(panels, rows.items(), strict=True):
        line[0].set_ylabel(label)
        for axes, points in zip(line, frames, strict=True):
            axes.imshow(heights, origin="lower", extent=(-REACH, REACH) * 2, cmap="Greys", alpha=0.35)
            axes.scatter(*points.cpu().double().unbind(1), s=2, alpha=0.6, linewidths=0, color="tab:red")
            axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=(), yticks=())
    for axes, caption in zip(panels[0], captions, strict=True):
        axes.set_title(caption, fontsize=10)
    return render(figure)


def density_picture(x: Tensor, log_prob: Callable[[Tensor], Tensor], reach: float = REACH) -> Image.Image:
    """Draw a density on the square [−reach, reach]², and beside it points (n, 2) over a faint copy of it.

    The title counts the points outside the square.
    """
    heights = _density(log_prob, reach)
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
    points.set_title(f"{len(x)} points" + (f", {outside} outside" if outside else ""))
    return render(figure)


def _density(log_prob: Callable[[Tensor], Tensor], reach: float, cells: int = 200) -> np.ndarray:
    """Return p(x) on the cells of the square [−reach, reach]²."""
    side = torch.linspace(-reach, reach, cells, dtype=torch.float64)
    return log_prob(torch.cartesian_prod(side, side).flip(1)).exp().view(cells, cells).numpy()


def render(figure: Figure, dpi: int = 100) -> Image.Image:
    """Render a figure as an image, and clear the figure."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    figure.clear()  # a figure refers to itself and would hold megabytes until garbage collection
    del canvas.renderer
    return picture
