"""Make docs/images/digits.png from a finished run: samples beside test examples, three rows of each.

vdm-train hydra.run.dir=logs/digits
python docs/images/digits.py logs/digits
"""

import sys
from pathlib import Path

from PIL import Image

from vdm.plots.images import labelled

ROWS, TILE, GAP = 3, 66, 24
"""Rows of each half; pixels of one digit with its border, and between the halves."""


def main(run: Path) -> None:
    halves = [Image.open(run / "pictures" / f"{name}.png") for name in ("samples", "test_examples")]
    width, height = halves[0].width, ROWS * TILE + 2
    both = Image.new(halves[0].mode, (2 * width + GAP, height), "white")
    for left, half in zip((0, width + GAP), halves, strict=True):
        both.paste(half.crop((0, 0, width, height)), (left, 0))
    labelled(both, ["samples of the model", "real test digits"]).save(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
