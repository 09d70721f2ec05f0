"""Suggestions for misspelt or unknown settings."""

import ast
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.config.groups import config_directory, groups, package, root_names
from vdm.errors import did_you_mean

HELP = "--help lists the settings"

COLLECTIONS = ("experiment", "rung", "sweep", "model")
"""Groups whose options repeat settings of other groups."""

STEPS = "trainer.max_steps={value} (a run is counted in optimiser steps)"
DEBUG = "trainer=debug, or trainer=overfit, limited or profile"

OTHER_SPELLINGS = {
    "lr": "optimizer.lr={value}",
    "weight_decay": "optimizer.weight_decay={value}",
    "max_epochs": STEPS,
    "epochs": STEPS,
    "max_steps": STEPS,
    "steps": STEPS,
    "batch_size": "data.batch_size={value}",
    "num_workers": "data.workers={value}",
    "workers": "data.workers={value}",
    "data_dir": "data.root={value}",
    "datamodule": "data={value}",
    "dataset": "data={value}",
    "scheduler": "learning_rate=cosine for the learning rate, schedule=cosine for the noise",
    "noise_schedule": "schedule={value}",
    "beta_schedule": "schedule={value}",
    "timesteps": "time=discrete model.time.timesteps={value}",
    "ema": "ema_decay={value}",
    "accelerator": "trainer.accelerator={value}",
    "devices": "trainer.devices={value}",
    "gpus": "trainer.devices={value}",
    "precision": "trainer=fast, bfloat16 where that is safe",
    "compile": "trainer=fast, which compiles on a GPU",
    "debug": DEBUG,
    "fast_dev_run": DEBUG,
    "hparams_search": "sweep=optuna",
    "launcher": "-m hydra/launcher={value}",
    "tags": "+tags={value}, which config.yaml keeps",
    "task_name": "+task_name={value}, which config.yaml keeps; the run's folder is hydra.run.dir=…",
    "name": "hydra.run.dir=…, the run's folder",
    "log_dir": "hydra.run.dir={value}",
    "out_dir": "hydra.run.dir={value}",
    "wandb": "logger=wandb",
    "num_samples": "n={value}",
    "checkpoint": "ckpt={value}",
    "ckpt_path": "ckpt={value}",
}
"""Names from other projects, such as the Lightning-Hydra template, and what they are called here."""

IN_TRAINING = {"ckpt_path": "hydra.run.dir=FOLDER resume=true, which resumes from the folder's last checkpoint"}
"""The same in vdm-train, where it differs."""


def suggestion(config_name: str, error: BaseException, arguments: Sequence[str] = ()) -> str:
    """Return a hint to append to the message of Hydra's ``error`` on an unknown setting; empty for any other error."""
    cause = error.__cause__
    if not isinstance(cause, OmegaConfBaseException) or cause.parent_node is None or not cause.full_key:
        return ""
    root = cause.parent_node
    while root._get_parent() is not None:
        root = root._get_parent()
    known = [
        *below(OmegaConf.to_container(root, resolve=False)),
        *root_names(config_name),
        *(group.name for group in groups(config_name)),
    ]
    named = re.search(r"Could not override '([^']+)'", str(error))
    return meant(config_name, named[1] if named else str(cause.full_key), known, arguments)


def meant(config_name: str, name: str, known: Sequence[str], arguments: Sequence[str] = ()) -> str:
    """Return what an unknown setting probably means, as the end of a message.

    Args:
        known: groups and settings, the latter as dotted names.
    """
    having = owners(name)
    if having:
        return f"; it is a setting of {' or '.join(having)}"
    outer, _, last = name.rpartition(".")
    if outer == "trainer" and last in trainer_settings():
        return f"; it is an argument of Lightning's Trainer: write +{_argument(name, arguments)}"
    table = OTHER_SPELLINGS | (IN_TRAINING if config_name == "train" else {})
    spelling = table.get(name, "") or table.get(last, "")
    if spelling and _exists(spelling, known):
        return f"; here it is {spelling.format(value=_argument(name, arguments).partition('=')[2] or '…')}"
    same = [each for each in known if each.rpartition(".")[2] == last and "." in each]
    return f"; did you mean {same[0]!r}?" if len(same) == 1 else did_you_mean(name, known, HELP)


def owners(setting: str) -> list[str]:
    """Return the options, such as time=discrete, that have a setting of this dotted name."""
    having = []
    for path in sorted(Path(config_directory()).glob("*/*.yaml")):
        text = path.read_text(encoding="utf-8")
        if path.parent.name in COLLECTIONS or setting.rpartition(".")[2] not in text:
            continue
        place, tree = package(path), OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if setting in below(tree, f"{place}." if place else ""):
            having.append(f"{path.parent.name}={path.stem}")
    return having


def trainer_settings() -> set[str]:
    """Return the arguments of Lightning's Trainer, from its source: importing it would take seconds."""
    package = find_spec("lightning")
    root = Path(package.origin).parent if package and package.origin else Path()
    source = root / "pytorch/trainer/trainer.py"
    tree = ast.parse(source.read_text()) if source.is_file() else ast.Module([], [])
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    return {argument.arg for function in functions for argument in function.args.kwonlyargs}


def _argument(name: str, arguments: Sequence[str]) -> str:
    """Return the argument that gives ``name``, or the name and an ellipsis."""
    given = [each.lstrip("+") for each in arguments]
    return next((each for each in given if each.partition("=")[0] == name), f"{name}=…")


def _exists(spelling: str, known: Sequence[str]) -> bool:
    """Whether the command has what a spelling names first; Hydra's own settings and flags exist in every command."""
    first = re.split(r"[=, ]", spelling.removeprefix("-m "))[0]
    return first.startswith(("+", "hydra")) or first in known


def below(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings in a tree."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from below(value, f"{prefix}{key}.")
