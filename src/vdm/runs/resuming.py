"""The settings that a run must keep when it is resumed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vdm.errors import InvalidInput

CHANGEABLE = (
    *("resume", "output_dir", "callbacks", "fid", "logger", "data.cache", "data.device", "data.workers"),
    *("trainer.accelerator", "trainer.default_root_dir", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.profiler", "trainer.max_time", "trainer.enable_model_summary", "trainer.detect_anomaly"),
)
"""Settings that may change when a run is resumed: hardware, limits of time, loggers, callbacks, profiling."""

EXTENDED = "trainer.max_steps"
"""Setting that may grow: the run is then extended."""


def check_same_settings(path: Path, recorded: Mapping[str, Any], config: DictConfig) -> None:
    """Raise InvalidInput if a setting of ``config`` outside ``CHANGEABLE`` differs from the run at ``path``."""
    before, now = dict(leaves(recorded)), dict(leaves(OmegaConf.to_container(config, resolve=True)))
    for name in sorted(before.keys() | now.keys()):
        if name == EXTENDED and is_longer(before.get(name), now.get(name)):
            continue
        if before.get(name) != now.get(name) and not any(f"{name}.".startswith(f"{free}.") for free in CHANGEABLE):
            raise InvalidInput(
                f"{path} holds a run with {name}={before.get(name)}, not {now.get(name)}: resume it with its own "
                "settings, or choose another hydra.run.dir="
            )


def is_longer(before: Any, now: Any) -> bool:
    """Return whether ``now`` is a number of steps that extends a run of ``before`` steps."""
    return isinstance(before, int) and isinstance(now, int) and 0 < before < now


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of every leaf of a tree of dictionaries."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
