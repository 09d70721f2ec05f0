"""``vdm-dashboard sweep=FOLDER``: a W&B workspace for a sweep, written to a file and uploaded where W&B can be reached."""

import sys
from importlib.util import find_spec
from pathlib import Path

import wandb

from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.runs.files import write_atomically
from vdm.runs.sweeps import as_invalid_input, read_sweep
from vdm.training.loggers.wandb import why_offline

PATIENCE = 5.0
"""Seconds that a server without an answer may cost."""

USAGE = "vdm-dashboard sweep=FOLDER [entity=NAME]"


def dashboard(sweep: Path, entity: str | None) -> None:
    """Writes the workspace's specification into the sweep's folder, and uploads it to ``entity`` unless W&B is offline.

    Raises:
        InvalidInput: a folder that no sweep wrote, one without a run that was logged to W&B, or a package that is not there.
    """
    if find_spec("wandb_workspaces") is None:
        raise InvalidInput("a dashboard needs wandb-workspaces: pip install -e '.[dashboards]' where vdm lies")
    from vdm.reports import wandb_workspace

    with as_invalid_input(sweep):
        runs = read_sweep(sweep)
    offline = why_offline(PATIENCE)
    owner = entity or ("" if offline else str(wandb.Api().default_entity))
    with as_invalid_input(sweep):
        view = wandb_workspace.build(sweep.resolve().name, runs, owner)
    path = sweep / "dashboard.json"
    write_atomically(path, wandb_workspace.specification(view).encode())
    console.show(
        console.listing("written", [f"{console.near(path)}: {'; '.join(section.name for section in view.sections)}"])
    )
    if offline is None:
        view.save()
    else:
        console.show(f"W&B is offline ({offline}): the same command uploads the workspace once it is not")


def main() -> None:
    if {"--help", "-h"} & {*sys.argv}:
        print(f"{USAGE}: a W&B workspace for a sweep; entity= if the project is not your own")
        return
    try:
        given = command.words(sys.argv[1:], ("sweep", "entity"), USAGE)
        if "sweep" not in given:
            raise InvalidInput(f"say for which sweep: {USAGE}, with entity= if the project is not your own")
        dashboard(Path(given["sweep"]), given.get("entity"))
    except InvalidInput as error:
        command.stop(str(error))
