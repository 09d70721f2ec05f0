"""``--help``: what a command does, examples, the groups it uses with a line on each, and its settings."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap

import hydra
from omegaconf import OmegaConf

from vdm.config.groups import COMMANDS, Group, config_directory, description, groups

EXAMPLES = {
    "train": (
        ("", "the built-in digits, in minutes on a CPU"),
        ("schedule=cosine optimizer.lr=1e-3", "another option of a group, another value of a setting"),
        ("experiment=mnist seed=1", "settings that belong together"),
        ("-m schedule=linear,cosine seed=1,2,3", "a sweep: six runs"),
        ("trainer=debug", "a few steps, to see that it runs"),
        ("hydra.run.dir=runs/a resume=true", "resume the run in runs/a"),
    ),
    "evaluate": (
        ("ckpt=RUN/checkpoints/best.ckpt", "the number of the end of training again"),
        ("ckpt=… timesteps=[100,1000] flow=true", "other estimates beside it"),
        ("ckpt=… fid=inception", "samples and their FID"),
    ),
    "sample": (
        ("ckpt=RUN/checkpoints/best.ckpt n=64", "pictures and samples.npz"),
        ("ckpt=… sampler=dpm_solver steps=20", "in fewer steps"),
    ),
    "export": (("ckpt=RUN/checkpoints/best.ckpt folder=model", "weights for use without Hydra and Lightning"),),
    "compress": (("ckpt=RUN/checkpoints/best.ckpt folder=packed", "the test set as one file"),),
    "decompress": (("packed/images.vdm folder=images", "the images, bit for bit"),),
    "variance_study": (("ckpt=RUN/checkpoints/best.ckpt", "at the run's schedule and two others"),),
    "likelihood_page": (("ckpt=RUN/checkpoints/best.ckpt examples=64", "every estimate on the first 64 test examples"),),
    "lineage": (("", "the latest `vdm-train experiment=lineage`"),),
}

FLAGS = """  --help GROUP      the options of a group, with a line on each
  --cfg job         print the config and stop; --resolve fills in its interpolations
  -m                run one job for each combination of a,b,c
  --config-dir DIR  add a folder with groups and options of your own
  --version, --hydra-help"""


def help_text(config_name: str, arguments: Sequence[str]) -> str:
    """Return the help of the command of a config, or of the group that ``arguments`` name.

    Args:
        arguments: of the command line; overrides change the settings that are shown.
    """
    found = {group.name: group for group in groups(config_name)}
    named = [found[word] for word in arguments if word in found]
    return "\n".join(_of_group(group) for group in named) if named else _of_command(config_name, arguments)


def _of_group(group: Group) -> str:
    width = max((len(path.stem) for path in group.options), default=0)
    lines = [f"  {path.stem:<{width}}  {description(path)}" for path in group.options]
    return "\n".join([f"{group.name}=OPTION: {group.holds}", *lines])


def _of_command(config_name: str, arguments: Sequence[str]) -> str:
    command = COMMANDS[config_name]
    examples = [f"  {f'{command} {words}'.strip():<47}  {what}" for words, what in EXAMPLES[config_name]]
    return "\n\n".join(
        [
            _heading(config_name),
            "\n".join(["examples", *examples]),
            *_group_lines(groups(config_name)),
            f"options of the command line\n{FLAGS}",
            f"settings (NAME.NAME=VALUE), as chosen\n\n{_settings(config_name, arguments)}",
        ]
    )


def _heading(config_name: str) -> str:
    path = Path(config_directory()) / f"{config_name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines[: next(i for i, s in enumerate(lines) if s[:1] != "#")])


def _group_lines(found: Sequence[Group]) -> list[str]:
    if not found:
        return []
    width, kind, lines = max(len(group.name) for group in found), "", ["groups (GROUP=OPTION)"]
    fold = partial(wrap, width=get_terminal_size().columns, subsequent_indent=" " * (width + 6), break_on_hyphens=False)
    for group in found:
        if group.kind != kind:
            kind = group.kind
            lines.append(f"  {kind}")
        lines += fold(f"    {group.name:<{width}}  {group.holds}:")
        lines += fold(", ".join(path.stem for path in group.options), initial_indent=" " * (width + 6))
    return ["\n".join(lines)]


def _settings(config_name: str, arguments: Sequence[str]) -> str:
    overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
    with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
        return OmegaConf.to_yaml(hydra.compose(config_name, overrides=overrides)).rstrip()
