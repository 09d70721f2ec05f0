"""Entry points of the commands with a config. Nothing here imports torch: see ``command``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.runs.files import check_is_folder

ANNOUNCED = ("experiment", "rung", "data", "model", "schedule")
"""Groups whose options say what is trained."""


TRAIN_SETTINGS = {"resume": bool, "ckpt": str | None, "logger": Mapping[str, Mapping]}
"""Types of the settings of ``vdm-train`` that are not arguments of any part."""


def train() -> None:
    """Run ``vdm-train``."""
    command.run("train", "vdm.cli.train:train", TRAIN_SETTINGS, announcement)


def evaluate() -> None:
    """Run ``vdm-evaluate``."""
    switches = ("even_gamma", "continuous", "flow", "kid", "inception_score", "precision_recall")
    settings = {"ckpt": str, "split": str, "ema": bool, "accelerator": str, **dict.fromkeys(switches, bool | None)}
    parts = dict.fromkeys(("estimators", "relatives"), Mapping[str, Mapping])
    command.run("evaluate", "vdm.cli.evaluate:evaluate", settings | parts)


def sample() -> None:
    """Run ``vdm-sample``."""
    numbers = {"n": int, "steps": int | None, "batch_size": int, "seed": int}
    settings = {"ckpt": str, "ema": bool, "accelerator": str, "compile": bool} | numbers
    command.run("sample", "vdm.cli.sample:sample", settings)


def export() -> None:
    """Run ``vdm-export``."""
    command.run("export", "vdm.cli.export:export", {"ckpt": str, "folder": str, "ema": bool, "push": str | None})


def compress() -> None:
    """Run ``vdm-compress``."""
    settings = {"ckpt": str, "folder": str, "ema": bool, "images": str | None, "examples": int | None}
    numbers = {"batch_size": int, "ramp": int | None, "block": int, "timesteps": int | None, "repeats": int | None}
    command.run("compress", "vdm.cli.compress:compress", settings | numbers)


def decompress() -> None:
    """Run ``vdm-decompress``."""
    sys.argv[1:] = as_overrides(sys.argv[1:])
    settings = {"file": str, "folder": str, "ckpt": str | None, "ema": bool}
    command.run("decompress", "vdm.cli.decompress:decompress", settings)


def as_overrides(arguments: list[str]) -> list[str]:
    """Return the command's arguments with a file that stands by itself as the setting ``file``."""
    quoted = [argument.replace("\\", "\\\\").replace("'", "\\'") for argument in arguments[:1]]
    named = "=" in arguments[0] or arguments[0].startswith("-") if arguments else True
    return arguments if named else [f"file='{quoted[0]}'", *arguments[1:]]


DASHBOARD = "vdm-dashboard sweep=FOLDER [entity=NAME]"


def dashboard() -> None:
    """Run ``vdm-dashboard``."""
    command.run_plain(_dashboard, f"{DASHBOARD}: a W&B workspace for a sweep; entity= if the project is another's")


def _dashboard(arguments: list[str]) -> None:
    given = command.words(arguments, ("sweep", "entity"), DASHBOARD)
    if "sweep" not in given:
        raise InvalidInput(f"sweep= is needed: {DASHBOARD}, with entity= if the project is another's")
    check_is_folder(Path(given["sweep"]))
    resolve_name("vdm.cli.dashboard:dashboard")(Path(given["sweep"]), given.get("entity"))


def announcement(config: DictConfig) -> str:
    """Return data, model, schedule, steps, device and folder of a run, in one line."""
    choices = HydraConfig.get().runtime.choices
    parts = [f"{group}={choices[group]}" for group in ANNOUNCED if choices.get(group)]
    trainer: Any = OmegaConf.to_container(config, resolve=True)
    trainer = trainer.get("trainer") or {}
    folder = Path(str(config.output_dir))
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return f"training {' '.join(parts)}, {trainer.get('max_steps')} steps, device {trainer.get('accelerator')}, in {shown}"
