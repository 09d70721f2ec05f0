"""A training step that ended a run, run again: from the file that ``StopOnNonFinite`` keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vdm.batch import Batch
from vdm.bound import Loss, VariationalModel
from vdm.cli.build import restore
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.models import DiffusionModel
from vdm.runs.checkpoints import read_content


@torch.no_grad()
def rerun_step(model: VariationalModel, batch: Batch, draws: Draws) -> Loss:
    """The loss of a training step, with its draws and its dropout."""
    draws.seed_torch()
    return model.train().loss(batch, draws)


def locate_non_finite(model: VariationalModel, batch: Batch, draws: Draws, loss: Loss) -> str:
    """Which term of which example is not finite, and at which t, for people."""
    bad = (~torch.isfinite(loss.value)).nonzero().flatten().tolist()
    if not bad:
        return "it is finite when run again"
    first = bad[0]
    terms = [name for name, value in loss.bound.terms().items() if not torch.isfinite(value[first])]
    if not torch.isfinite(batch.x[first].float()).all():
        terms = ["the data"]
    named = " and ".join(name.replace("_", " ") for name in terms if name != "bits_per_dim") or "the objective"
    when = ""
    if isinstance(model, DiffusionModel):
        t, _ = model.times.draw(draws, model.likelihood.encode(batch.x))
        when = f" at t = {t[first].item():.4g}"
    return f"{named} of training example {int(batch.index[first])}{when} ({len(bad)} of {len(batch.x)} in the batch)"


class Replay(NamedTuple):
    """The step: the model before it, the batch, the draws, the loss that they give again, and what is wrong with it."""

    model: VariationalModel
    batch: Batch
    draws: Draws
    loss: Loss
    cause: str


def replay(path: str | Path, trust: str | Sequence[str] | None = None) -> Replay:
    """Run the step kept in ``path`` again, on the CPU.

    Args:
        trust: as in ``restore``.

    Raises:
        InvalidInput: a file that is not of a kept step; see ``restore``.
    """
    content = read_content(Path(path))
    if "batch" not in content:
        raise InvalidInput(f"{path} is a checkpoint, and no step that StopOnNonFinite kept: name non_finite_step_….ckpt")
    parts, checkpoint = restore(str(path), ema=False, trust=trust, finite=False)
    model, batch = parts.task.evaluated, Batch(**content["batch"])
    draws = Draws(parts.task.seed, checkpoint.step, content["rank"], content["world_size"])
    loss = rerun_step(model, batch, draws)
    model.load_state_dict(checkpoint.weights(ema=False))
    return Replay(model, batch, draws, loss, locate_non_finite(model, batch, draws, loss))
