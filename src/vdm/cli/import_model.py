"""``vdm-import vdm CKPT folder=OUT event_shape=[3,32,32]``: another project's trained model, as an exported one."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

import vdm
from vdm.cli import command
from vdm.config.signatures import accepted, check_arguments
from vdm.errors import InvalidInput, did_you_mean

KINDS = {
    "vdm": "vdm.adapters.official.import_vdm",
    "openai": "vdm.adapters.openai.import_openai",
    "diffusers": "vdm.adapters.diffusers.import_diffusers",
}
"""The first word of the command, and the function that reads such a file."""

USAGE = f"vdm-import {'|'.join(KINDS)} FILE folder=NEW_FOLDER name=value …"


def import_model(kind: str, path: Path, folder: str, settings: dict[str, Any]) -> None:
    """Read the model at ``path``, write it into a new folder, read it back, and print how to use it."""
    from vdm.adapters.folder import new_folder, write_imported  # here, so that the usage is there at once
    from vdm.reports import console

    out, function = new_folder(folder), _function(kind)
    check_arguments(function, [path], settings, True, kind)
    imported = function(path, **settings)
    size = write_imported(out, imported)
    vdm.load(out)
    short = console.short_path(out)
    lines = [f"vdm-evaluate ckpt={short} data=…", f"vdm-sample ckpt={short}", f'model = vdm.load("{short}")']
    console.show(console.listing(f"{short}: {size / 2**20:.1f} MiB, {imported.weights} weights", lines))


def _function(kind: str) -> Any:
    if kind not in KINDS:
        raise InvalidInput(f"there is no importer {kind!r}{did_you_mean(kind, KINDS, f'usage: {USAGE}')}")
    module, _, name = KINDS[kind].rpartition(".")
    return getattr(import_module(module), name)


def parse(arguments: Sequence[str]) -> tuple[str, Path, str, dict[str, Any]]:
    """Return (kind, file, folder, settings) of a command line; values are yaml.

    Raises:
        InvalidInput: words that are missing or too many, an unknown setting, a value that is not yaml.
    """
    words = [word for word in arguments if "=" not in word.partition("/")[0]]
    if len(words) != 2:
        raise InvalidInput(f"usage: {USAGE}")
    kind, path = words
    signature, _ = accepted(_function(kind), {})
    names = ["folder", *list(signature.parameters)[1:]]
    given = command.words([argument for argument in arguments if argument not in words], names, USAGE)
    if "folder" not in given:
        raise InvalidInput(f"folder is needed: add folder=NEW_FOLDER; usage: {USAGE}")
    folder = given.pop("folder")
    return kind, Path(path), folder, {name: _value(name, text) for name, text in given.items()}


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{name}={text[:60]} is not a value: write numbers, words, or lists such as [3,32,32]") from error


def main() -> None:
    command.run_plain(lambda arguments: import_model(*parse(arguments)), f"{USAGE}: see docs/importing.md")
