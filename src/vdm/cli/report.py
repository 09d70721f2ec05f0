"""``vdm-report run=… | sweep=… | compare … | likelihood … | estimators … | lineage``: pages on runs and models."""

import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.runs.files import check_is_folder
from vdm.runs.reading import reading

COUNTS = dict.fromkeys(("examples", "timesteps", "repeats", "batches", "seed"), int)
STUDIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "estimators": (
        "variance_study",
        "vdm.studies.variance_report:estimators",
        {"ckpt": str, "split": str, "ema": bool, "growth": list[int] | None, **COUNTS}
        | dict.fromkeys(("times", "schedules"), Mapping[str, Mapping]),
    ),
    "likelihood": (
        "likelihood_page",
        "vdm.studies.likelihood_page:likelihood",
        {"ckpt": str, "split": str, "ema": bool, "accelerator": str, "divergence": str, "tolerance": float}
        | dict.fromkeys(("examples", "seed", "rows", "repeats"), int)
        | dict.fromkeys(("trajectory_timesteps", "trajectory_repeats", "flow_repeats"), int)
        | dict.fromkeys(("timesteps", "trajectories", "flow_samples"), list[int]),
    ),
    "lineage": ("lineage", "vdm.studies.ladder:lineage", {"runs": str | None, "reference": str | None}),
}
"""Reports with a config: its name, the function, imported when it is called, and the types of its settings."""

FOLDERS = {"run": "vdm.reports.run:report", "sweep": "vdm.reports.sweep:report"}
"""Reports from the files of a folder, into its report/ or output_dir=."""

HELP = {"--help", "-h"}
COMPARE_USAGE = "vdm-report compare runs=[A,B,…] folder=FOLDER [reference=NAME]"
USAGE = """vdm-report run=FOLDER [output_dir=FOLDER]     one page on a run, finished or not
vdm-report sweep=FOLDER [output_dir=FOLDER]   tables and figures over the runs of a sweep; reference=NAME or the best
vdm-report compare runs=[A,B] folder=FOLDER   is A better than B, with intervals; reference=NAME or best for more
vdm-report likelihood ckpt=FILE …             every estimate of −log p(x), and the orderings that must hold
vdm-report estimators ckpt=FILE …             variance of the bound's two forms; estimators --help lists its settings
vdm-report lineage [runs=FOLDER] …            the models of the lineage side by side; lineage --help lists its settings"""


def on_folder(kind: str, arguments: list[str]) -> None:
    """Report on ``run=FOLDER`` or ``sweep=FOLDER``, into ``output_dir=`` or the folder's own report/."""
    more = ("reference",) if kind == "sweep" else ()
    usage = f"vdm-report {kind}=FOLDER [output_dir=FOLDER]{''.join(f' [{name}=NAME]' for name in more)}"
    given = command.words(arguments, (kind, "output_dir", *more), usage)
    folder = Path(given[kind])
    check_is_folder(folder)
    with reading(folder):
        output = Path(given.get("output_dir", folder / "report"))
        resolve_name(FOLDERS[kind])(folder, output, *(given.get(name) for name in more))


def compare_results(arguments: list[str]) -> None:
    """Report on ``runs=[A,B,…]``, into ``folder=``."""
    if HELP & {*arguments}:
        print(USAGE)
        return
    given = command.words(arguments, ("runs", "folder", "reference"), COMPARE_USAGE)
    for name in ("runs", "folder"):
        if name not in given:
            raise InvalidInput(f"{name}= is needed: {COMPARE_USAGE}")
    resolve_name("vdm.reports.compare:report")(given["runs"], Path(given["folder"]), given.get("reference"))


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    kind = asked.partition("=")[0]
    if asked in HELP or (kind in FOLDERS and HELP & {*sys.argv}):
        print(USAGE)
    elif asked == "--version":
        command.show_version()
    elif kind in FOLDERS:
        try:
            on_folder(kind, sys.argv[1:])
        except InvalidInput as error:
            command.stop(str(error))
    elif asked == "compare":
        try:
            compare_results(sys.argv[2:])
        except InvalidInput as error:
            command.stop(str(error))
    elif asked in STUDIES:
        command.run(*STUDIES[sys.argv.pop(1)])
    else:
        kinds = "compare runs=…, likelihood ckpt=…, estimators ckpt=…, lineage, run=FOLDER, or sweep=FOLDER"
        command.stop(f"say what to report on: {kinds}")
