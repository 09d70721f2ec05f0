"""Run a training step again that ended a run, from the file that ``StopOnNonFinite`` wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vdm.batch import Batch
from vdm.bound import Loss, VariationalModel
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.models import DiffusionModel
from vdm.runs.checkpoints import read_content
from vdm.runs.load import load_run, load_weights


@torch.no_grad()
def rerun_step(model: VariationalModel, batch: Batch, draws: Draws) -> Loss:
    """Return the loss of a training step, with its draws and its dropout."""
    draws.seed_torch()
    return model.train().loss(batch, draws)


def locate_non_finite(model: VariationalModel, batch: Batch, draws: Draws, loss: Loss) -> str:
    """Describe which term of which example is not finite, and at which t."""
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
    """A step: the model before it, its batch and draws, the loss that they give, and a description of the fault."""

    model: VariationalModel
    batch: Batch
    draws: Draws
    loss: Loss
    cause: str


def replay(path: str | Path, trust: str | Sequence[str] | None = None) -> Replay:
    """Run the step written to ``path`` again, on the CPU.

    Args:
        trust: as in ``load_run``.

    Raises:
        InvalidInput: a checkpoint instead of such a file; see ``load_run``.
    """
    content = read_content(Path(path))
    if "batch" not in content:
        raise InvalidInput(f"{path} is a checkpoint without a kept step: name a file non_finite_step_….ckpt")
    run = load_run(str(path), ema=False, trust=trust, finite=False)
    model, checkpoint, batch = run.model, run.checkpoint, Batch(**content["batch"])
    draws = Draws(run.seed, checkpoint.step, content["rank"], content["world_size"])
    loss = rerun_step(model, batch, draws)
    load_weights(model, checkpoint, ema=False, finite=False)  # the step has moved buffers
    return Replay(model, batch, draws, loss, locate_non_finite(model, batch, draws, loss))
