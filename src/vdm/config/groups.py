"""The groups of configs: what each holds, which command uses it, and the names that it sets."""

import re
from pathlib import Path
from typing import NamedTuple

import vdm

COMMANDS = {
    "train": "vdm-train",
    "evaluate": "vdm-evaluate",
    "sample": "vdm-sample",
    "export": "vdm-export",
    "compress": "vdm-compress",
    "decompress": "vdm-decompress",
    "variance_study": "vdm-report estimators",
    "lineage": "vdm-report lineage",
    "likelihood_page": "vdm-report likelihood",
}
"""The command of each config."""


class Group(NamedTuple):
    """A config group: its kind, its name, what it holds, and the yaml of each option."""

    kind: str
    name: str
    holds: str
    options: list[Path]


def config_directory() -> str:
    """Return the folder of Hydra's groups: inside the installed package, or at the top of a checkout."""
    package = Path(vdm.__file__).parent
    packaged = package / "configs"
    return str(packaged if packaged.is_dir() else package.parents[1] / "configs")


def groups(config_name: str) -> list[Group]:
    """Return the groups that a command uses, as the table of configs/README.md describes them."""
    folder, kind, found = Path(config_directory()), "", []
    for line in (folder / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 4:
            continue
        kind = cells[0] or kind
        for name in re.findall(r"`([\w/]+)`", cells[1]) if f"`{COMMANDS[config_name]}" in cells[3] else ():
            found.append(Group(kind, name, cells[2].replace("`", ""), sorted((folder / name).glob("*.yaml"))))
    return found


def description(path: Path) -> str:
    """Return the first sentence of a yaml's first comment, or the class that the yaml names."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#") and not line.startswith("# @")]
    if comments:
        return re.split(r"(?<=\.)\s", comments[0])[0]
    targets = re.findall(r"_target_: (\S+)", "\n".join(lines))
    return targets[0] if targets else ""


def package(path: Path) -> str:
    """Return the dotted name below which a group's yaml sets values; empty for the top of the config."""
    header = re.match(r"# @package (\S+)", path.read_text(encoding="utf-8"))
    return path.parent.name if header is None else re.sub(r"^_global_\.?", "", header[1])


def root_names(config_name: str) -> set[str]:
    """Return the names that a command's yaml and its groups set at the top of the config."""
    own, found = Path(config_directory()) / f"{config_name}.yaml", set()
    for path in [own, *(option for group in groups(config_name) for option in group.options)]:
        place = "" if path == own else package(path)
        text = path.read_text(encoding="utf-8")
        found |= {place.partition(".")[0]} if place else set(re.findall(r"^(\w+):", text, re.MULTILINE))
    return found - {"defaults", "hydra"}
