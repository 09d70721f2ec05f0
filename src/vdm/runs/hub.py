"""Exported models on the Hugging Face Hub; huggingface_hub is an optional package."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from vdm.errors import InvalidInput, one_line
from vdm.runs.exported import DESCRIPTION, WEIGHTS

CARD = "README.md"

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def is_repository(name: str) -> bool:
    """Return whether ``name`` has the form ``user/repo`` or ``user/repo@revision``."""
    return _NAME.fullmatch(name) is not None


def check_push(name: object) -> None:
    """Raise InvalidInput unless ``name`` can be pushed to: the form ``user/repo``, and the package is installed."""
    if not isinstance(name, str) or not is_repository(name) or "@" in name:
        raise InvalidInput(f"push={name} is not a repository of the Hugging Face Hub: name one such as push=user/repo")
    _library()


def download(name: str) -> Path:
    """Return the local folder of a model on the Hub, of which its weights and its description are downloaded.

    Raises:
        InvalidInput: huggingface_hub is not installed; no such repository, or no connection.
    """
    repository, _, revision = name.partition("@")
    library = _library(f"there is no file or folder {name}; as a model of the Hugging Face Hub it")
    try:
        return Path(library.snapshot_download(repository, revision=revision or None, allow_patterns=[WEIGHTS, DESCRIPTION]))
    except Exception as error:  # of the library, or of the one below it
        raise InvalidInput(
            f"there is no file or folder {name}, and the Hugging Face Hub gave no such model ({_reason(error)}): check the "
            "name and the connection, and log in for a private one"
        ) from error


def push(folder: Path, name: str) -> str:
    """Upload an exported model and its card to the repository ``name``, made if there is none; return its address.

    Raises:
        InvalidInput: huggingface_hub is not installed; not allowed, or no connection.
    """
    api = _library().HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), allow_patterns=[WEIGHTS, DESCRIPTION, CARD])
    except Exception as error:  # of the library, or of the one below it
        raise InvalidInput(
            f"{folder} was written, but not pushed to {name} ({_reason(error)}): log in with a token that may write there"
        ) from error
    return f"https://huggingface.co/{name}"


def _library(what: str = "the Hugging Face Hub") -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise InvalidInput(f"{what} needs the package huggingface_hub: pip install 'vdm[hub]'") from error


def _reason(error: Exception) -> str:
    return one_line(error, 120, named=True)
