"""Guidance changes samples, and no bound."""

import pytest
import torch
from torch import nn

from support.catalogue import concrete, options, part
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.networks import MLP, ClassEmbedding, OptionalClassEmbedding
from vdm.networks.embedding import NO_LABEL
from vdm.parameterisations import NoiseParameterisation
from vdm.samplers import AncestralSampler, ClassifierFreeGuidance, Guidance, NoGuidance, Sampling
from vdm.schedules import LinearSchedule

LABELS = torch.tensor([0, 1, 2, 1])


def model(guidance, embedding=None):
    torch.manual_seed(0)
    network = MLP((2,), 8, 1, -6.0, 5.0, condition=embedding or OptionalClassEmbedding(3, 4, dropout=0.5))
    nn.init.normal_(network.last.weight)
    sampling = Sampling(AncestralSampler(), steps=4, guidance=guidance)
    denoiser = Denoiser(network, NoiseParameterisation())
    vdm = VDM(LinearSchedule(-6.0, 5.0), denoiser, GaussianLikelihood(), ContinuousTime(), sampling=sampling)
    return vdm.eval().requires_grad_(False)


def test_every_guidance_has_a_yaml():
    found = {type(part("model.sampling.guidance", f"guidance={name}")) for name in options("guidance")}
    assert found == concrete(Guidance)


def sample(guidance, labels=LABELS):
    return model(guidance).sample(4, (2,), draws=Draws(0), condition=labels)


def test_weight_zero_is_the_model():
    assert torch.equal(sample(ClassifierFreeGuidance(0.0)), sample(NoGuidance()))


def test_weight_minus_one_ignores_the_label():
    one, other = sample(ClassifierFreeGuidance(-1.0)), sample(ClassifierFreeGuidance(-1.0), LABELS.flip(0))
    assert torch.allclose(one, other, atol=1e-5)
    assert not torch.allclose(sample(NoGuidance()), sample(NoGuidance(), LABELS.flip(0)), atol=1e-3)


def test_guidance_changes_samples_and_no_bound():
    assert not torch.allclose(sample(ClassifierFreeGuidance(2.0)), sample(NoGuidance()))
    batch = Batch(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.arange(4), LABELS)
    values = [BoundEvaluation(2)(model(guidance), batch) for guidance in (NoGuidance(), ClassifierFreeGuidance(2.0))]
    assert torch.equal(*values)


def test_guided_prediction_is_the_extrapolation():
    guided, x_t = model(ClassifierFreeGuidance(0.5)), torch.ones(4, 2)
    gamma, draws = torch.zeros(4), Draws(0)
    given = guided.imagined(x_t, draws, LABELS)
    free = guided.denoiser.with_condition(torch.full_like(LABELS, NO_LABEL))(x_t, gamma)
    found, own = guided.sampling.guidance(given)(x_t, gamma), given.denoise(x_t, gamma)
    for mixed, a, b in zip(found, own, free, strict=True):
        assert torch.allclose(mixed, 1.5 * a - 0.5 * b)


def test_guidance_needs_labels_and_training_without():
    for labels, embedding in ((None, None), (LABELS, ClassEmbedding(3, 4))):
        with pytest.raises(InvalidInput, match="guidance needs labels"):
            model(ClassifierFreeGuidance(1.0), embedding).sample(4, (2,), draws=Draws(0), condition=labels)


def test_labels_are_dropped_in_training_alone():
    embedding, labels = OptionalClassEmbedding(3, 4, dropout=0.3), torch.zeros(5000)
    none = embedding.table.weight[3]
    torch.manual_seed(0)
    share = (embedding.train()(labels) == none).all(1).double().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 5000) ** 0.5
    assert not (embedding.eval()(labels) == none).all(1).any()


def test_more_classes_than_known_are_refused():
    with pytest.raises(InvalidInput, match="labels 0 … 2"):
        OptionalClassEmbedding(3, 4).check(torch.tensor([3, 0]))
