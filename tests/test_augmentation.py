"""Augmentation that the network is told of."""

import pytest
import torch
from torch import nn

from support.catalogue import concrete, options, part
from vdm.augmentation import ChannelOrders, Flips, IndicatedSymmetries, QuarterTurns, Symmetry
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation.warnings import augmented
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM, RelaxedVDM
from vdm.networks import IndicatorEmbedding, VDMUNet
from vdm.parameterisations import NoiseParameterisation
from vdm.schedules import LinearSchedule

X = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4) % 17
SYMMETRIES = [Flips(), QuarterTurns(), ChannelOrders()]


def test_every_symmetry_is_in_a_yaml():
    found = {type(each) for name in options("augmentation") for each in build(name).symmetries}
    assert found == concrete(Symmetry)


def build(name):
    return part("model.augmentation", f"augmentation={name}")


@pytest.mark.parametrize("name", options("augmentation"))
def test_yaml_says_how_many_numbers_the_indicator_has(name):
    embedding = part("model.denoiser.network.condition", f"augmentation={name}")
    assert embedding.linear.in_features == build(name).features


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda each: type(each).__name__)
def test_maps_are_different_and_keep_the_pixels(symmetry):
    images = [symmetry.apply(X, torch.full((2,), choice)) for choice in range(symmetry.choices)]
    assert torch.equal(images[0], X)
    assert len({tuple(image.flatten().tolist()) for image in images}) == symmetry.choices
    for image in images:
        assert torch.equal(image.flatten(1).sort().values, X.flatten(1).sort().values)


def test_indicator_says_what_was_done():
    """Undone by its indicator, each image is the example; all maps are drawn, alike."""
    n = 6000
    x = X[:1].expand(n, -1, -1, -1)
    batch = IndicatedSymmetries([QuarterTurns()])(Batch(x, torch.arange(n)), Draws(0))
    turns = (batch.condition * torch.arange(1, 4)).sum(1).long()
    assert torch.equal(QuarterTurns().apply(batch.x, (4 - turns) % 4), x)
    counts = torch.bincount(turns, minlength=4) / n
    assert (counts - 0.25).abs().max() < 4 * (0.25 * 0.75 / n) ** 0.5


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_probability_is_that_of_drawing_a_map(probability):
    n = 6000
    batch = IndicatedSymmetries([Flips()], probability)(Batch(X[:1].expand(n, -1, -1, -1), None), Draws(0))
    expected = probability / 2
    assert abs(batch.condition.mean() - expected) <= 4 * (expected * (1 - expected) / n) ** 0.5


def model(augmentation):
    network = VDMUNet((3, 4, 4), 16, 1, -8.0, 5.0, condition=IndicatorEmbedding(augmentation.features))
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
    denoiser = Denoiser(network, NoiseParameterisation())
    vdm = VDM(LinearSchedule(-8.0, 5.0), denoiser, CategoricalLikelihood(17), ContinuousTime())
    return RelaxedVDM(vdm, augmentation=augmentation).requires_grad_(False)


def test_evaluation_has_the_indicator_at_zero():
    augmentation = IndicatedSymmetries(SYMMETRIES)
    trained, x = model(augmentation), X[:2]
    zero = torch.zeros(2, augmentation.features)
    assert torch.equal(trained.elbo(x, Draws(0)).total, trained.elbo(x, Draws(0), condition=zero).total)
    assert not torch.equal(trained.elbo(x, Draws(0)).total, trained.elbo(x, Draws(0), condition=zero + 1).total)
    seen = augmentation(Batch(x, None), Draws(0))
    loss = trained.loss(Batch(x, None), Draws(0))
    assert torch.equal(loss.bound.total, trained.elbo(seen.x, Draws(0), seen.condition).total)


def test_result_names_the_augmentation():
    assert "Flips, QuarterTurns with probability 0.5" in augmented(model(IndicatedSymmetries(SYMMETRIES[:2], 0.5)))
    assert augmented(part("model", "network=mlp")) is None


@pytest.mark.parametrize(
    ("symmetry", "x", "message"),
    [
        (Flips(), torch.zeros(2, 3), "needs images"),
        (QuarterTurns(), torch.zeros(2, 3, 4, 5), "square"),
        (ChannelOrders(), torch.zeros(2, 1, 4, 4), "three of them"),
    ],
)
def test_unfit_examples_are_refused(symmetry, x, message):
    with pytest.raises(InvalidInput, match=message):
        IndicatedSymmetries([symmetry])(Batch(x, None), Draws(0))


def test_labels_are_refused():
    with pytest.raises(InvalidInput, match="leave labels out"):
        IndicatedSymmetries([Flips()])(Batch(X, None, torch.zeros(2)), Draws(0))
