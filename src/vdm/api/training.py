"""``vdm.train``: what ``vdm-train`` does, as a call with a result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vdm.api.opening import open_run
from vdm.bound import VariationalModel
from vdm.cli import train as training
from vdm.cli.composing import composed
from vdm.cli.entry import TRAIN_SETTINGS
from vdm.cli.machine import prepare
from vdm.config.composed import to_plain
from vdm.config.instantiate import calls
from vdm.estimate import Estimate
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.load import PARTS
from vdm.terms import term_names


class TrainedRun(NamedTuple):
    """A finished run.

    Attributes:
        folder: the run's folder, which every command takes.
        model: with the averaged weights of the checkpoint that was tested, in evaluation mode, on the CPU.
        metrics: the content of metrics.json.
    """

    folder: Path
    model: VariationalModel
    metrics: dict[str, Any]

    @property
    def terms(self) -> dict[str, Estimate]:
        """The bound of the test set and its terms, in bits/dim."""
        return {name: read_estimate(self.metrics["test"][name]) for name in term_names(self.model.matching_entries)}

    @property
    def bits_per_dim(self) -> Estimate:
        return self.terms["bits_per_dim"]

    @property
    def warnings(self) -> list[str]:
        """What would make the number look better, or more certain, than it is."""
        return list(self.metrics["warnings"])


def train(overrides: str | Sequence[str] = (), folder: str | Path | None = None) -> TrainedRun:
    """Train a model, evaluate it on the whole test set, and write a run folder, as ``vdm-train`` does.

    Args:
        overrides: as on the command line: ``["experiment=digits", "trainer.max_steps=100"]``.
        folder: of the run; a new one below ``logs/train/runs`` by default.

    Raises:
        InvalidInput: whatever the command refuses, in one line.
    """
    arguments = [overrides] if isinstance(overrides, str) else list(overrides)
    prepare()
    with composed("train", arguments, folder, TRAIN_SETTINGS) as config:
        run, parts = RunFolder(config.output_dir), {name: to_plain(config[name]) for name in PARTS}
        training.train(config)
    own = {str(node["_target_"]).partition(".")[0] for _, node in calls(parts)}  # the caller's config, so it is trusted
    model = open_run(run.root, trust=sorted(own)).model
    return TrainedRun(run.root, model, json.loads(run.metrics.read_text()))
