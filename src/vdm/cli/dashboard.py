"""``vdm-dashboard sweep=FOLDER``: write a W&B workspace for a sweep, and upload it if W&B answers."""

import sys
from importlib.util import find_spec
from pathlib import Path

import wandb

from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.runs.files import write_atomically
from vdm.runs.reading import reading
from vdm.runs.sweeps import read_sweep
from vdm.training.loggers.wandb import why_offline

SERVER_TIMEOUT_S = 5.0  # seconds to wait for the server
USAGE = "vdm-dashboard sweep=FOLDER [entity=NAME]"


def dashboard(sweep: Path, entity: str | None) -> None:
    """Write the workspace to dashboard.json in the sweep's folder, and upload it to ``entity`` unless W&B is offline.

    Raises:
        InvalidInput: a folder without a sweep, or without a run that was logged to W&B; wandb-workspaces is not installed.
    """
    if find_spec("wandb_workspaces") is None:
        raise InvalidInput("a dashboard needs wandb-workspaces: pip install -e '.[dashboards]' in the folder of vdm")
    from vdm.reports import wandb_workspace

    with reading(sweep):
        runs = read_sweep(sweep)
    offline = why_offline(SERVER_TIMEOUT_S)
    owner = entity or ("" if offline else str(wandb.Api().default_entity))
    with reading(sweep):
        view = wandb_workspace.build(sweep.resolve().name, runs, owner)
    path = sweep / "dashboard.json"
    write_atomically(path, wandb_workspace.specification(view).encode())
    sections = "; ".join(section.name for section in view.sections)
    console.show(console.listing("written", [f"{console.short_path(path)}: {sections}"]))
    if offline is None:
        view.save()
    else:
        console.show(f"W&B is offline ({offline}): run the command again to upload the workspace")


def main() -> None:
    if {"--help", "-h"} & {*sys.argv}:
        print(f"{USAGE}: a W&B workspace for a sweep; entity= if the project is another's")
        return
    try:
        given = command.words(sys.argv[1:], ("sweep", "entity"), USAGE)
        if "sweep" not in given:
            raise InvalidInput(f"sweep= is needed: {USAGE}, with entity= if the project is another's")
        dashboard(Path(given["sweep"]), given.get("entity"))
    except InvalidInput as error:
        command.stop(str(error))
