"""A W&B workspace for a sweep, with a panel for each metric and picture that its runs logged."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

from vdm.config.hints import config_directory
from vdm.errors import InvalidInput
from vdm.reports.groups import differing
from vdm.runs.folder import RunFolder
from vdm.runs.reading import read_yaml
from vdm.runs.sweeps import Run
from vdm.runs.tables import STANDARD_ERRORS, WANDB_STEP, read_rows

SECTIONS = {
    "Bound, by term": r"(val|test)/(bits_per_dim|reconstruction|prior_matching|denoising_matching|auxiliary_kl)$",
    "Samples": r"pictures/",
    "Over noise levels": r"profile/",
    "Schedule": r"schedule/",
    "Scores of samples": r"(val|test)/(fid|kid|inception|precision|recall)",
    "Other terms": r"(val|test)/",
    "Throughput": r"throughput/",
    "Training": r"",
}
"""Titles of sections, with the pattern of their metrics and pictures; the first match counts."""


def build(name: str, runs: Sequence[Run], entity: str) -> workspaces.Workspace:
    """Return the workspace of W&B's group ``name``, its runs grouped by the settings in which they differ besides the seed.

    Raises:
        InvalidInput: no run was logged to W&B.
    """
    folders = [run.folder for run in runs if run.folder is not None]
    metrics, pictures = metric_names(folders), picture_names(folders)
    sections = []
    for title, members in by_section([*metrics, *pictures]).items():
        panels = [_panel(member, member in pictures) for member in members]
        sections.append(workspaces.Section(name=title, panels=panels, is_open=True))
    groups = Path(config_directory())  # W&B's config has the option of a config group under ``choices``
    varied = differing([run.settings for run in runs])
    grouped = [workspaces.Config(f"choices.{name}" if (groups / name).is_dir() else name) for name in varied]
    return workspaces.Workspace(
        entity=entity,
        project=_project(folders),
        name=f"sweep {name}",
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=WANDB_STEP, max_runs=100),
        runset_settings=workspaces.RunsetSettings(filters=[workspaces.Metric("Group") == name], groupby=grouped),
    )


def specification(workspace: workspaces.Workspace) -> str:
    """Return the JSON that an upload sends; wandb-workspaces has no public function for it."""
    return workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)


def metric_names(folders: Iterable[RunFolder]) -> list[str]:
    """Return the columns of all metrics.csv files, without steps and standard errors; W&B has the same names."""
    names = dict.fromkeys(name for folder in folders for name in read_rows(folder.curves)[0])
    return [name for name in names if name != "step" and not name.endswith(STANDARD_ERRORS)]


def picture_names(folders: Iterable[RunFolder]) -> list[str]:
    """Return the names of the pictures logged to W&B, from its copies ``media/images/NAME_STEP_HASH.png``."""
    names = set()
    for folder in folders:
        for images in folder.root.glob("wandb/*run-*/files/media/images"):
            names |= {re.sub(r"_\d+_[0-9a-f]+\.png$", "", str(p.relative_to(images))) for p in images.rglob("*.png")}
    return sorted(names)


def by_section(names: Iterable[str]) -> dict[str, list[str]]:
    """Return metrics and pictures by section, without empty sections."""
    sections: dict[str, list[str]] = {title: [] for title in SECTIONS}
    for name in names:
        sections[next(title for title, pattern in SECTIONS.items() if re.match(pattern, name))].append(name)
    return {title: members for title, members in sections.items() if members}


def _panel(name: str, picture: bool) -> reports.MediaBrowser | reports.BarPlot | reports.LinePlot:
    if picture:
        return reports.MediaBrowser(title=name, media_keys=[name])
    if name.startswith("test/"):
        return reports.BarPlot(title=name, metrics=[name])
    return reports.LinePlot(title=name, x=WANDB_STEP, y=[name])


def _project(folders: Iterable[RunFolder]) -> str:
    for folder in folders:
        loggers = read_yaml(folder.config)["logger"] if folder.config.exists() else {}
        if "wandb" in loggers:
            return str(loggers["wandb"]["project"])
    raise InvalidInput("none of the sweep's runs was logged to W&B: train with logger=wandb")
