"""The config of a command for a call from Python, composed and checked as on the command line."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vdm.cli.command import SHARED_SETTINGS, USER_ERRORS, error_line, quiet
from vdm.cli.early import Command, check
from vdm.config.arguments import checked_arguments
from vdm.config.groups import config_directory
from vdm.config.signatures import check_value
from vdm.errors import InvalidInput


@contextmanager
def composed(
    config_name: str, overrides: Sequence[str], folder: str | Path | None, settings: Mapping[str, Any]
) -> Iterator[DictConfig]:
    """Yield a command's checked config; within the context Hydra's state is that of the command, afterwards as before.

    Args:
        folder: of the run; the config's ``hydra.run.dir`` by default.
        settings: as in ``Command``.

    Raises:
        InvalidInput: whatever ends the command with one line, also from within the context.
    """
    before = HydraConfig.instance().cfg, GlobalHydra.instance().hydra, sys.argv
    try:
        sys.argv = [sys.argv[0], *checked_arguments(overrides)]  # which the hints on unknown names read
        config = _composed(Command(config_name, config_name, SHARED_SETTINGS | dict(settings)), sys.argv[1:], folder)
        sys.argv = before[2]
        quiet()
        yield config
    except USER_ERRORS as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(error_line(config_name, error)) from error
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra, sys.argv = before


def _composed(command: Command, arguments: list[str], folder: str | Path | None) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
        whole = hydra.compose(command.config_name, overrides=arguments, return_hydra_config=True)
    with read_write(whole.hydra), open_dict(whole.hydra):
        whole.hydra.runtime.output_dir = str(Path(folder or whole.hydra.run.dir).expanduser().absolute())
    HydraConfig.instance().set_config(whole)
    config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    check(command, config, whole.hydra)
    given: Any = OmegaConf.to_container(config, resolve=True)
    for name in command.settings.keys() & given.keys():
        check_value(given[name], command.settings[name], name)
    return config
