"""The commands that a run prints at its end work as printed."""

import shlex
from pathlib import Path

import pytest

from vdm.cli.train_results import _trust
from vdm.config.arguments import checked_arguments
from vdm.reports.console import path_argument


@pytest.mark.parametrize("name", ["runs/a/best.ckpt", "my runs/a=b/it's.ckpt", "a [bold] {x}/,.ckpt"])
def test_printed_path_reaches_the_command(name):
    (word,) = shlex.split(path_argument("ckpt", Path(name)).replace("\\[", "["))
    assert word == f"ckpt={name}"
    assert len(checked_arguments([word])) == 1


@pytest.mark.parametrize(
    ("schedule", "argument"),
    [("vdm.schedules.LinearSchedule", ""), ("mine.parts.Own", " 'trust=[mine]'"), ("torch.nn.Linear", " 'trust=[torch]'")],
)
def test_printed_command_trusts_the_run_s_own_packages(schedule, argument):
    config = {"model": {"_target_": "vdm.models.VDM", "schedule": {"_target_": schedule}}, "optimizer": {"_target_": "a.B"}}
    assert _trust(config).replace("\\[", "[") == argument
