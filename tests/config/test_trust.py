"""Files that a user loads run no foreign code: one exploit for each way in."""

import copy
import re
import sys

import pytest
import torch
from omegaconf import OmegaConf

from support.catalogue import composed, options
from support.groups import KINDS, OWNERS
from support.hostile import CALLS, filled
from vdm.config.composed import to_plain
from vdm.config.instantiate import check_calls, instantiate, require_resolved
from vdm.config.trust import TrustEverything, TrustParts
from vdm.data import MNIST
from vdm.errors import InvalidInput
from vdm.models import LearnedDecoder
from vdm.runs import load
from vdm.runs.load import load_run
from vdm.runs.sweeps import read_sweep
from vdm.schedules import LinearSchedule
from vdm.training.build import build

SMALL = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The content of a checkpoint of an untrained model."""
    config = to_plain(composed(*SMALL))
    _, task = build(config)
    state = {f"averaged.module.{name}": value for name, value in task.evaluated.state_dict().items()}
    return {"vdm": {"format": 1, "config": config, "provenance": {}}, "state_dict": state, "global_step": 0}


@pytest.fixture
def with_config(content, tmp_path):
    """A function that writes a checkpoint with a changed config and returns its path."""

    def write(place, value):
        changed = {**content, "vdm": copy.deepcopy(content["vdm"])}
        changed["vdm"]["config"] = load._changed(changed["vdm"]["config"], {place: value})
        torch.save(changed, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return write


def traces(tmp_path):
    """Return a command that creates a file, and a function that returns whether it has run."""
    file = tmp_path / "exploited"
    return f"touch {file}", file.exists


PLACES = (
    "model",
    "model.schedule",
    "model.denoiser.network.condition",
    "data",
    "data.event_shape",
    "test",
)


@pytest.mark.parametrize("name", CALLS)
def test_foreign_calls_are_refused_before_anything_runs(name, with_config, tmp_path):
    """The error is one line with the place, and no other package is imported."""
    command, done = traces(tmp_path)
    node = filled(CALLS[name], {"command": command, "file": str(tmp_path / "exploited")})
    loaded = set(sys.modules)
    place = PLACES[list(CALLS).index(name) % len(PLACES)]
    with pytest.raises(InvalidInput) as caught:
        load_run(with_config(place, node), ema=True)
    assert "\n" not in str(caught.value)
    assert place in str(caught.value)
    assert not done()
    new = {module.partition(".")[0] for module in set(sys.modules) - loaded}
    assert new <= {"vdm", "torch"}


@pytest.mark.parametrize("place", ["optimizer", "learning_rate", "callbacks", "logger", "trainer", "validation"])
def test_other_parts_of_a_foreign_config_are_never_built(place, with_config, tmp_path):
    command, done = traces(tmp_path)
    run = load_run(with_config(place, {"_target_": "os.system", "command": command}), ema=True)
    assert run.data.splits()
    assert not done()


@pytest.mark.parametrize("place", PLACES)
def test_foreign_calls_are_refused_in_every_place(place, with_config, tmp_path):
    command, done = traces(tmp_path)
    with pytest.raises(InvalidInput, match=r"calls os\.system, which is not trusted"):
        load_run(with_config(place, {"_target_": "os.system", "command": command}), ema=True)
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
def test_interpolations_are_refused_and_never_resolved(text, with_config):
    """vdm writes resolved configs: an interpolation in one was put there to read the environment of whoever loads it."""
    OmegaConf.register_new_resolver("exploit", lambda: pytest.fail("resolved"), replace=True)
    for value in (text, "${exploit:}"):
        with pytest.raises(InvalidInput, match=r"data\.root: .* is an interpolation"):
            load_run(with_config("data.root", value), ema=True)


def test_names_are_refused_before_any_import(with_config, tmp_path, monkeypatch):
    """An import runs the module's code."""
    (tmp_path / "evil_parts.py").write_text(f"open({str(tmp_path / 'exploited')!r}, 'w')\nclass Part: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInput, match="add trust=evil_parts"):
        load_run(with_config("model.schedule", {"_target_": "evil_parts.Part"}), ema=True)
    assert not (tmp_path / "exploited").exists()


MINE = """
import os
from vdm.schedules import LinearSchedule
class MySchedule(LinearSchedule):
    pass
"""


def test_packages_of_the_user_need_trust_by_name(with_config, tmp_path, monkeypatch):
    """Trust covers what the package itself defines, not what it imports."""
    (tmp_path / "my_parts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    ends = {"gamma_min": -8.0, "gamma_max": 5.0}
    checkpoint = with_config("model.schedule", {"_target_": "my_parts.MySchedule", **ends})
    with pytest.raises(InvalidInput, match="add trust=my_parts"):
        load_run(checkpoint, ema=True)
    for trust in ("my_parts", ["another", "my_parts"]):
        run = load_run(checkpoint, ema=True, trust=trust)
        assert type(run.model.schedule).__name__ == "MySchedule"
        with pytest.raises(InvalidInput, match=r"calls my_parts\.os\.system"):
            load_run(with_config("model.schedule", {"_target_": "my_parts.os.system"}), ema=True, trust=trust)
        checkpoint = with_config("model.schedule", {"_target_": "my_parts.MySchedule", **ends})


@pytest.mark.parametrize("name", ["vdm.schedules.linear_betas", "vdm.models.LearnedDecoder.of_shapes"])
def test_trust_allows_functions_marked_as_buildable(name):
    assert callable(TrustParts().find(name, "model"))


@pytest.mark.parametrize("name", ["vdm.networks.vdm_unet.official_norm", "vdm.models.VDM.from_pretrained"])
def test_trust_refuses_functions_without_the_mark(name):
    with pytest.raises(InvalidInput, match=f"model: this file's config calls {re.escape(name)}"):
        TrustParts().find(name, "model")


def test_trust_refuses_an_override_without_the_mark():
    """The permission belongs to a definition, and is not inherited by name."""

    class Decoder(LearnedDecoder):
        @classmethod
        def of_shapes(cls, *_):
            pytest.fail("called")

    Decoder.__module__ = LearnedDecoder.__module__
    trust, name = TrustParts(), "vdm.models.learned.Decoder.of_shapes"
    assert trust.allows_object(name, LearnedDecoder.of_shapes)
    assert not trust.allows_object(name, Decoder.of_shapes)


def test_an_untouched_checkpoint_is_read(with_config):
    run = load_run(with_config("seed", 0), ema=True)
    assert type(run.model.schedule) is LinearSchedule
    assert run.checkpoint.config["seed"] == 0


@pytest.mark.parametrize("place", ["levels", "seed", "data", "model", "test"])
def test_configs_without_a_part_are_refused(place, content, tmp_path):
    config = {name: part for name, part in content["vdm"]["config"].items() if name != place}
    torch.save({**content, "vdm": content["vdm"] | {"config": config}}, tmp_path / "less.ckpt")
    for changes in ({}, {"test.repeats": 3}):
        with pytest.raises(InvalidInput, match=r"less\.ckpt .*config describes no run|^test must be a BoundEvaluation"):
            load_run(tmp_path / "less.ckpt", ema=True, changes=changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, content, tmp_path):
    """Samples from NaN weights can look like valid levels; ``finite=False`` loads them to find the cause."""
    state = dict(content["state_dict"])
    name = next(name for name in state if name.endswith("weight"))
    state[name] = state[name].clone()
    state[name].view(-1)[3] = value
    torch.save({**content, "state_dict": state}, tmp_path / "bad.ckpt")
    with pytest.raises(InvalidInput, match=r"bad\.ckpt: the weights are not finite \(.*weight holds NaN or infinity\)"):
        load_run(tmp_path / "bad.ckpt", ema=True)
    assert load_run(tmp_path / "bad.ckpt", ema=True, finite=False).checkpoint.step == 0


@pytest.mark.parametrize("by_name", [True, False])
def test_foreign_configs_download_nothing(by_name, with_config, tmp_path, monkeypatch):
    """``download: true`` in a checkpoint has no effect."""
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
        load_run(with_config("data", node), ema=True).data.splits()


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
        load_run(tmp_path / "pickled.ckpt", ema=True)
    assert not file.exists()


def test_the_users_own_config_may_call_anything():
    """No name is refused on the user's own command line, apart from those that Hydra blocks."""
    tree = {"_target_": "fractions.Fraction", "_args_": [1, 2]}
    assert instantiate(tree, TrustEverything()) == 0.5
    with pytest.raises(InvalidInput, match=r"fractions\.Fraction"):
        instantiate(tree, TrustParts())


def test_every_shipped_choice_is_trusted_in_a_checkpoint():
    """Checkpoints of every option of the groups load without ``trust=``."""
    for group in (*KINDS, "network", "learning_rate", "objective", "sampler", "spacing", "latents"):
        for option in options(group):
            tree = to_plain(composed(*OWNERS.get(group, []), f"{group}={option}"))
            used = {name: tree[name] for name in load.PARTS}
            check_calls(used, TrustParts())
            require_resolved(used)


def test_foreign_sweeps_resolve_no_interpolation(tmp_path, monkeypatch):
    """A report shows an interpolation unresolved."""
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
