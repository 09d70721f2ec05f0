"""``vdm-report run=… | sweep=… | estimators ckpt=… | lineage``: pages and tables on runs and models."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.reports import run, sweep
from vdm.runs.reading import reading
from vdm.studies.ladder import lineage
from vdm.studies.variance_report import estimators

COUNTS = dict.fromkeys(("examples", "timesteps", "repeats", "batches", "seed"), int)
STUDIES: dict[str, tuple[str, Callable[[DictConfig], None], dict[str, Any]]] = {
    "estimators": (
        "variance_study",
        estimators,
        {"ckpt": str, "split": str, "ema": bool, "growth": list[int] | None, **COUNTS}
        | dict.fromkeys(("times", "schedules"), Mapping[str, Mapping]),
    ),
    "lineage": ("lineage", lineage, {"runs": str | None}),
}
"""Reports with a config: its name, the function, and the types of its settings."""

FOLDERS = {"run": run.report, "sweep": sweep.report}  # reports from the files of a folder, into its report/ or output_dir=
HELP = {"--help", "-h"}
USAGE = """vdm-report run=FOLDER [output_dir=FOLDER]     one page on a run, finished or not
vdm-report sweep=FOLDER [output_dir=FOLDER]   tables and figures over the runs of a sweep
vdm-report estimators ckpt=FILE …             variance of the bound's two forms; estimators --help lists its settings
vdm-report lineage [runs=FOLDER] …            the models of the lineage side by side; lineage --help lists its settings"""


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    kind = asked.partition("=")[0]
    if asked in HELP or (kind in FOLDERS and HELP & {*sys.argv}):
        print(USAGE)
    elif kind in FOLDERS:
        try:
            given = command.words(sys.argv[1:], (kind, "output_dir"), f"vdm-report {kind}=FOLDER [output_dir=FOLDER]")
            folder = Path(given[kind])
            with reading(folder):
                FOLDERS[kind](folder, Path(given.get("output_dir", folder / "report")))
        except InvalidInput as error:
            command.stop(str(error))
    elif asked in STUDIES:
        command.run(*STUDIES[sys.argv.pop(1)])
    else:
        command.stop("say what to report on: estimators ckpt=…, lineage, run=FOLDER, or sweep=FOLDER")
