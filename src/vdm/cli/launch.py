"""What the command line asks of Hydra before any config is composed: one action, and a launcher that can launch."""

import shutil
from collections.abc import Sequence

from vdm.errors import InvalidInput

ACTIONS = {
    "a run": ("--run", "-r"),
    "a sweep (-m)": ("--multirun", "-m"),
    "--cfg": ("--cfg", "-c"),
    "--info": ("--info", "-i"),
    "--shell-completion": ("--shell-completion", "-sc"),
}
"""Actions of which Hydra takes one, and their words."""


def check_launch(arguments: Sequence[str]) -> None:
    """Raise InvalidInput for two actions at once, and for a sweep on SLURM where there is none."""
    words = {argument.partition("=")[0] for argument in arguments}
    asked = [action for action, names in ACTIONS.items() if words & set(names)]
    if len(asked) > 1:
        raise InvalidInput(f"{' and '.join(asked)} exclude each other: leave one out")
    slurm = any(argument == "hydra/launcher=slurm" for argument in arguments)
    if slurm and words & {"--multirun", "-m"} and shutil.which("srun") is None:
        raise InvalidInput(
            "hydra/launcher=slurm: there is no srun here; submit from a login node, or leave the launcher out"
        )
