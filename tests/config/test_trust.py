"""Nothing that a user loads can run code: an exploit for each way in, and what is refused has not begun."""

import copy
import sys

import pytest
import torch
from omegaconf import OmegaConf

from support.catalogue import composed, options
from support.groups import KINDS, OWNERS
from support.hostile import CALLS, filled
from vdm.cli import build as building
from vdm.cli.build import build, restore
from vdm.config.composed import to_plain
from vdm.config.instantiate import check_calls, instantiate, require_resolved
from vdm.config.trust import TrustEverything, TrustParts
from vdm.data import MNIST
from vdm.errors import InvalidInput
from vdm.runs.sweeps import read_sweep
from vdm.schedules import LinearSchedule

SMALL = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What a checkpoint of an untrained model holds."""
    config = to_plain(composed(*SMALL))
    _, task = build(config)
    state = {f"averaged.module.{name}": value for name, value in task.evaluated.state_dict().items()}
    return {"vdm": {"format": 1, "config": config, "provenance": {}}, "state_dict": state, "global_step": 0}


@pytest.fixture
def with_config(content, tmp_path):
    """The path of a checkpoint whose config is changed."""

    def write(place, value):
        changed = {**content, "vdm": copy.deepcopy(content["vdm"])}
        building._change(changed["vdm"]["config"], place.split("."), value)
        torch.save(changed, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return write


def traces(tmp_path):
    """A command that leaves a file behind, and whether it did."""
    file = tmp_path / "exploited"
    return f"touch {file}", file.exists


PLACES = (
    "model",
    "model.schedule",
    "model.denoiser.network.condition",
    "data",
    "data.event_shape",
    "optimizer",
    "learning_rate",
    "test",
)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_a_checkpoints_config_is_refused_before_anything_runs(name, with_config, tmp_path):
    """In one line that says where; no other package is imported."""
    command, done = traces(tmp_path)
    node = filled(CALLS[name], {"command": command, "file": str(tmp_path / "exploited")})
    loaded = set(sys.modules)
    place = PLACES[list(CALLS).index(name) % len(PLACES)]
    with pytest.raises(InvalidInput) as caught:
        restore(with_config(place, node), ema=True)
    assert "\n" not in str(caught.value)
    assert place in str(caught.value)
    assert not done()
    new = {module.partition(".")[0] for module in set(sys.modules) - loaded}
    assert new <= {"vdm", "torch"}


@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_the_config_is_forgotten(place, with_config, tmp_path):
    command, done = traces(tmp_path)
    with pytest.raises(InvalidInput, match=r"calls os\.system, which is no part"):
        restore(with_config(place, {"_target_": "os.system", "command": command}), ema=True)
    assert not done()


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME}",
        "${oc.decode:'1'}",
        "${oc.create:{}}",
        "a${oc.env:HOME}b",
        "${model.schedule}",
        "${hydra:runtime.cwd}",
        "${${x}}",
        "\\${oc.env:HOME}",
    ],
)
def test_an_interpolation_in_a_checkpoints_config_is_refused_and_never_resolved(text, with_config):
    """Written by vdm they are resolved; whoever puts one back wants something of the reader's machine."""
    OmegaConf.register_new_resolver("exploit", lambda: pytest.fail("resolved"), replace=True)
    for value in (text, "${exploit:}"):
        with pytest.raises(InvalidInput, match=r"data\.root: .* is an interpolation"):
            restore(with_config("data.root", value), ema=True)


def test_a_name_is_refused_before_its_package_is_imported(with_config, tmp_path, monkeypatch):
    """Importing is running."""
    (tmp_path / "evil_parts.py").write_text(f"open({str(tmp_path / 'exploited')!r}, 'w')\nclass Part: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInput, match="add trust=evil_parts"):
        restore(with_config("model.schedule", {"_target_": "evil_parts.Part"}), ema=True)
    assert not (tmp_path / "exploited").exists()


MINE = """
import os
from vdm.schedules import LinearSchedule
class MySchedule(LinearSchedule):
    pass
"""


def test_a_package_of_ones_own_has_to_be_trusted_by_name(with_config, tmp_path, monkeypatch):
    """And trust reaches no further than what the package itself defines."""
    (tmp_path / "my_parts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    ends = {"gamma_min": -8.0, "gamma_max": 5.0}
    checkpoint = with_config("model.schedule", {"_target_": "my_parts.MySchedule", **ends})
    with pytest.raises(InvalidInput, match="add trust=my_parts"):
        restore(checkpoint, ema=True)
    for trust in ("my_parts", ["another", "my_parts"]):
        parts, _ = restore(checkpoint, ema=True, trust=trust)
        assert type(parts.task.model.schedule).__name__ == "MySchedule"
        with pytest.raises(InvalidInput, match=r"calls my_parts\.os\.system"):
            restore(with_config("model.schedule", {"_target_": "my_parts.os.system"}), ema=True, trust=trust)
        checkpoint = with_config("model.schedule", {"_target_": "my_parts.MySchedule", **ends})


def test_an_untouched_checkpoint_is_read(with_config):
    parts, checkpoint = restore(with_config("seed", 0), ema=True)
    assert type(parts.task.model.schedule) is LinearSchedule
    assert checkpoint.config["seed"] == 0


@pytest.mark.parametrize("place", ["levels", "seed", "data", "model", "test"])
def test_a_config_that_lacks_a_part_describes_no_run(place, content, tmp_path):
    config = {name: part for name, part in content["vdm"]["config"].items() if name != place}
    torch.save({**content, "vdm": content["vdm"] | {"config": config}}, tmp_path / "less.ckpt")
    for changes in ({}, {"test.repeats": 3}):
        with pytest.raises(InvalidInput, match=r"less\.ckpt: its config describes no run|^test must be a BoundEvaluation"):
            restore(tmp_path / "less.ckpt", ema=True, changes=changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value, content, tmp_path):
    """Their samples look whole: levels that come of no number are levels. Only a step kept for its cause is looked at."""
    state = dict(content["state_dict"])
    name = next(name for name in state if name.endswith("weight"))
    state[name] = state[name].clone()
    state[name].view(-1)[3] = value
    torch.save({**content, "state_dict": state}, tmp_path / "bad.ckpt")
    with pytest.raises(InvalidInput, match=r"bad\.ckpt: the weights are not finite \(.*weight holds NaN or infinity\)"):
        restore(tmp_path / "bad.ckpt", ema=True)
    assert restore(tmp_path / "bad.ckpt", ema=True, finite=False)[1].step == 0


@pytest.mark.parametrize("by_name", [True, False])
def test_a_checkpoints_config_fetches_nothing(by_name, with_config, tmp_path, monkeypatch):
    """Whoever evaluates it downloads what they want themselves."""
    monkeypatch.setattr(MNIST, "fetcher", lambda self: pytest.fail("fetched"))
    own = {"event_shape": [1, 28, 28], "root": str(tmp_path), "sizes": {"train": 1, "val": 1, "test": 1}, "sha256": None}
    source = {"_target_": "vdm.data.MNIST", "_partial_": True}
    served = {
        "source": source,
        "batch_size": 1,
        "eval_batch_size": 1,
        "seed": 0,
        "workers": 0,
        "device": None,
        "flip": False,
    }
    node = {"_target_": "vdm.data.DataModule.of", **served, **own, "download": True}
    if not by_name:
        node = {"_target_": "vdm.data.DataModule.of", "_args_": [*served.values(), *own.values(), True]}
    with pytest.raises(InvalidInput, match="no train-images-idx3-ubyte"):
        restore(with_config("data", node), ema=True)


class Exploit:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (self.file, "w"))


@pytest.mark.parametrize("place", ["state_dict", "global_step", "optimizer_states", "vdm"])
def test_a_pickle_in_a_checkpoint_runs_nothing(place, content, tmp_path):
    file = tmp_path / "exploited"
    torch.save({**content, place: Exploit(str(file))}, tmp_path / "pickled.ckpt")
    with pytest.raises(InvalidInput, match="more in it than tensors and plain values"):
        restore(tmp_path / "pickled.ckpt", ema=True)
    assert not file.exists()


def test_what_the_user_typed_is_theirs():
    """Hydra's own block list apart, no name is refused on one's own command line."""
    tree = {"_target_": "fractions.Fraction", "_args_": [1, 2]}
    assert instantiate(tree, TrustEverything()) == 0.5
    with pytest.raises(InvalidInput, match=r"fractions\.Fraction"):
        instantiate(tree, TrustParts())


def test_every_shipped_choice_is_trusted_in_a_checkpoint():
    """Whatever the groups offer can be evaluated from its checkpoint without a word of trust."""
    for group in (*KINDS, "data", "rung", "network", "learning_rate", "objective", "sampler", "spacing", "latents"):
        for option in options(group):
            tree = to_plain(composed(*OWNERS.get(group, []), f"{group}={option}"))
            used = {name: tree[name] for name in building.PARTS}
            check_calls(used, TrustParts())
            require_resolved(used)


def test_a_foreign_sweep_tells_nothing_of_the_readers_machine(tmp_path, monkeypatch):
    """Its report shows an interpolation as it stands there."""
    monkeypatch.setenv("SECRET", "hunter2")
    job = tmp_path / "0/.hydra"
    job.mkdir(parents=True)
    (job / "overrides.yaml").write_text("- seed=${oc.env:SECRET}\n")
    (tmp_path / "0/config.yaml").write_text("trainer:\n  max_steps: ${oc.env:SECRET}\n")
    sweeper = "  sweeper:\n    _target_: BasicSweeper\n    params:\n      x: ${oc.env:SECRET}\n"
    (tmp_path / "multirun.yaml").write_text(f"hydra:\n{sweeper}  overrides:\n    task: [seed=1]\n")
    runs = read_sweep(tmp_path)
    assert [run.state for run in runs] == ["unfinished", "missing"]
    assert "${oc.env:SECRET}" in str(runs)
    assert "hunter2" not in str(runs)
