"""Every data set is a source with a yaml; settings stand flat beside those of the data module; others can be plugged in."""

import re

import pytest
import torch

from support.catalogue import composed, concrete, options, part
from vdm.data import DataModule, Digits, Source, Split
from vdm.errors import InvalidInput
from vdm.training.build import build


class Numbers(Source):
    """A source of somebody else's."""

    name, release = "numbers", "1"

    def __init__(self, event_shape, count: int):
        super().__init__(event_shape)
        self.count = count

    def load(self):
        return {name: Split(torch.randn(self.count, *self.event_shape)) for name in ("train", "val", "test")}

    def picture(self, x):
        raise NotImplementedError


NAMED_BY_FILES = ("folder", "dataset")
OWN = ("experiment=toy", f"data.source._target_={__name__}.Numbers", "~data.density", "~data.sizes")


def test_every_source_has_a_yaml():
    found = {option: part("data", f"data={option}") for option in options("data")}
    assert {type(data) for data in found.values()} == {DataModule}
    assert {type(data.source) for data in found.values()} == {kind for kind in concrete(Source) if kind.has_examples}
    assert all(data.name.startswith(option.split("_")[0]) for option, data in found.items() if option not in NAMED_BY_FILES)


@pytest.mark.parametrize("option", options("data"))
def test_data_set_brings_its_noise_levels(option):
    config = composed(f"data={option}")
    ends = {"digits": (-8.0, 5.0), "toy": (-10.0, 6.0)}.get(option, (-13.3, 5.0))
    assert (config.model.schedule.gamma_min, config.model.schedule.gamma_max) == ends


def test_experiment_digits_is_the_default():
    assert composed("experiment=digits") == composed()


def test_own_source_can_be_plugged_in():
    data, _ = build(composed(*OWN, "+data.count=300", "model.denoiser.network.hidden=8"))
    assert (data.name, len(data.split("val").x), data.batch_size) == ("numbers", 300, 256)
    assert data.provenance()["release"] == "1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "data: DataModule.of needs count: add data.count=…"),
        (("+data.count=many",), "data.count must be a whole number, got 'many'"),
        (("+data.coumt=5",), "has no 'coumt'; did you mean 'count'?"),
        (("+data.count=5", "data.source._target_=builtins.dict"), "data.source must make a vdm.data.Source, got dict"),
    ],
)
def test_settings_of_a_source_are_checked(overrides, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        build(composed(*OWN, *overrides))


@pytest.mark.parametrize("option", ["digits", "mnist", "toy"])
def test_flip_of_data_without_mirror_image_is_refused(option):
    with pytest.raises(InvalidInput, match=r"data.flip=true: examples of \w+ have no mirror image"):
        build(composed(f"data={option}", "+data.flip=true"))


def test_other_shape_than_stated_is_refused():
    with pytest.raises(InvalidInput, match=r"\(1, 8, 8\), but data.event_shape is \(64,\)"):
        DataModule(Digits((64,)), 8, 8).splits()
