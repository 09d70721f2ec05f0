"""``vdm-compress ckpt=… folder=…``: images as one file by a trained model, without loss, beside the model's bound."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from vdm.bars import share_bar
from vdm.cli import entry
from vdm.codec import Encoded, Images, Settings, encode
from vdm.codec.account import LABELS, account
from vdm.codec.files import check_new, png_names, read_images
from vdm.config.composed import instantiate_own
from vdm.errors import at_least
from vdm.evaluation.estimator import need_two
from vdm.networks.embedding import check_condition
from vdm.reports import console
from vdm.reports.table import Table
from vdm.runs.files import file_sha256, write_atomically, write_json
from vdm.runs.load import LoadedRun, load_run
from vdm.runs.version import code_version

FILE, ACCOUNT = "images.vdm", "compress.json"


class Request(NamedTuple):
    """What is to be compressed, and how. source: where the images come from, for compress.json."""

    run: LoadedRun
    images: Images
    source: dict[str, Any]
    settings: Settings
    folder: Path


def compress(config: DictConfig) -> None:
    """Write images.vdm and compress.json into a new folder, and print the account."""
    request = _prepare(config)
    before = time.process_time()
    with share_bar("compressing") as progress:
        encoded = encode(request.run.model, request.images, request.settings, progress)
    seconds = time.process_time() - before
    write_atomically(request.folder / FILE, encoded.content)
    with share_bar("bounds", quiet=config.repeats is None) as progress:
        found = account(request.run.model, request.images, encoded, config.repeats, 2, progress)
    content = _facts(request, encoded, seconds) | found
    write_json(request.folder / ACCOUNT, content)
    console.show(_table(request, encoded, content), _listing(request, content))


def _prepare(config: DictConfig) -> Request:
    """Load the run and the images; all refusals of settings happen here."""
    folder = Path(config.folder)
    check_new(folder)
    settings = Settings(config.timesteps, instantiate_own(config.grid, "grid"), config.batch_size, config.ramp, config.block)
    run = load_run(config.ckpt, config.ema, trust=config.trust)
    if config.images is not None:
        images, source = read_images(Path(config.images), run.data.event_shape), {"images": str(config.images)}
    else:
        split = run.data.split(config.data.split)
        names = png_names(run.data.source.file_names(config.data.split))
        images = Images(split.x, split.condition, names)
        source = {"data": run.data.name, "release": run.data.source.release, "split": config.data.split}
    if config.repeats is not None:
        need_two(config.repeats)
    if config.examples is not None:
        at_least(1, examples=config.examples)
    images = images.part(slice(config.examples))
    run.model.check(images.x)
    check_condition(run.model, images.condition)
    return Request(run, images, source, settings, folder)


def _facts(request: Request, encoded: Encoded, seconds: float) -> dict[str, Any]:
    """What the numbers of compress.json depend on."""
    checkpoint = request.run.checkpoint
    header = {name: value for name, value in encoded.header._asdict().items() if name != "images"}
    return {
        "file": FILE,
        "images": len(request.images.x),
        "source": request.source,
        "checkpoint": str(checkpoint.path.resolve()),
        "checkpoint_sha256": file_sha256(checkpoint.path),
        "weights": request.run.weights,
        "step": checkpoint.step,
        "vdm": code_version(),
        "cpu_seconds_per_image": seconds / len(request.images.x),
        "header": header,
    }


def _table(request: Request, encoded: Encoded, content: Mapping[str, Any]) -> Table:
    entries, n = content["bits_per_dim"], len(request.images.x)
    rows = []
    for name, label in LABELS.items():
        if name in entries:
            value, *errors = (entries[name].get(key) for key in ("value", "mc_se", "data_se"))
            rows.append((label, f"{value:.4f}", *("" if error is None else f"{error:.4f}" for error in errors)))
    parts = content["bytes"]
    caption = (
        f"file: {parts['file']:,} bytes = {parts['of_net']:,.0f} net + {parts['of_initial']:,.0f} initial + "
        f"{parts['of_checksums']:,.0f} checksums + {parts['of_header_and_names']:,.0f} header and names."
    )
    latents = f"T = {encoded.header.timesteps}, " if encoded.header.timesteps else ""
    title = f"{n} images, {latents}{request.run.weights} weights of step {request.run.checkpoint.step}"
    return Table(("code", "bits/dim", "mc_se", "data_se"), rows, title, caption)


def _listing(request: Request, content: Mapping[str, Any]) -> str:
    line = f"vdm-decompress {console.short_path(request.folder / FILE)} folder=…"
    cost = f"{content['cpu_seconds_per_image']:.3f} CPU-seconds an image"
    return console.listing(f"{console.short_path(request.folder / FILE)}, {cost}", [line])


main = entry.compress
