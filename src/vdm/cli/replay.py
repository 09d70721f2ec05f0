"""A training step that ended a run, run again: from the file that ``StopOnNonFinite`` keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vdm.bound import Batch, Loss, VariationalModel
from vdm.cli.build import restore
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.training.checkpoints import read_content
from vdm.training.non_finite import rerun, where


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
    loss = rerun(model, batch, draws)
    model.load_state_dict(checkpoint.weights(ema=False))
    return Replay(model, batch, draws, loss, where(model, batch, draws, loss))
