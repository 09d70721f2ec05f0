"""Suggestions for settings that do not exist, arguments that Hydra cannot read, and helpers at the top of a config."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from support.catalogue import CONFIGS, composed
from vdm.config.arguments import checked_arguments
from vdm.config.groups import COMMANDS, description, groups
from vdm.config.hints import suggestion
from vdm.config.root import unread
from vdm.errors import InvalidInput


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["time=continuous", "model.time.timesteps=100"], "it is a setting of time=discrete"),
        (["schedule=linear", "model.schedule.beta_0=1"], "it is a setting of schedule=ddpm"),
        (["network=unet", "model.denoiser.network.hidden=1"], "it is a setting of network=mlp"),
        (["model=vdm", "model.warmup.steps=5"], "it is a setting of kl_warmup=linear"),
    ],
)
def test_a_setting_of_another_choice_names_that_choice(words, reason):
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        composed(*words)
    assert reason in suggestion("train", caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("ckpt=runs/a/epoch=0-step=2.ckpt", "runs/a/epoch=0-step=2.ckpt"),
        ("ckpt=runs/it's {here}/a b.ckpt", "runs/it's {here}/a b.ckpt"),
        ("ckpt=runs/a.ckpt", "runs/a.ckpt"),
        ("data.root=~/pictures", "HOME/pictures"),
        ("data.event_shape=[1,8,8]", [1, 8, 8]),
    ],
)
def test_arguments_reach_hydra_as_they_were_meant(argument, value, monkeypatch):
    monkeypatch.setenv("HOME", "HOME")
    (given,) = checked_arguments([argument])
    (override,) = OverridesParser.create().parse_overrides([given])
    found = override.value()
    assert (str(found) if isinstance(value, str) else found) == value


def test_every_group_is_described_for_a_command():
    described = {group.name for name in COMMANDS for group in groups(name)}
    assert described == {path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "hydra"} | {
        "hydra/launcher"
    }
    assert all(description(path) for name in COMMANDS for group in groups(name) for path in group.options)


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"seed": 1, "width": 48, "model": {"channels": "${width}"}}, []),
        ({"width": 48, "model": {"channels": "${eval:'2*${ width }'}"}}, []),
        ({"width": 48, "model": {"channels": "${oc.select:width,3}"}}, []),
        ({"tags": ["a"], "task_name": "b"}, []),
        ({"colour": "red"}, ["colour"]),
    ],
)
def test_helpers_at_the_top_are_those_that_something_reads(tree, found):
    assert unread("train", tree, {}, []) == found


@pytest.mark.parametrize(("tree", "arguments"), [({"colour": 1}, ["+colour=1"]), ({"sede": 1}, [])])
def test_a_setting_that_nothing_reads_is_refused(tree, arguments):
    with pytest.raises(InvalidInput, match="there is no setting"):
        unread("train", {"seed": 0, **tree}, {}, arguments)
