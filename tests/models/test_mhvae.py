"""The generic Markov chain: its ELBO against exact answers, with kernels that know nothing of diffusion."""

import pytest
import torch
from torch import nn

from support.linear_gaussian import GaussianDecoder
from support.oracles import GaussianData
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import GaussianLikelihood
from vdm.models import MHVAE, VDM, MarkovKernels, StandardNormal
from vdm.process import isotropic
from vdm.schedules import LinearSchedule


class Scaled(MarkovKernels):
    """N(slope z, variance I) at every level."""

    def __init__(self, slope, variance):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.variance = variance

    def forward(self, t, z, condition=None):
        return isotropic(self.slope * z, z.new_full((len(z),), self.variance))


class Noisy(GaussianDecoder):
    """p(x | z_1) = N(z_1, variance I)."""

    def __init__(self, variance):
        super().__init__()
        self.variance = variance

    def distribution(self, z):
        return isotropic(z[0], z[0].new_full((len(z[0]),), self.variance))


def ladder(layers, up=0.8, down=0.6):
    return MHVAE(layers, Scaled(up, 0.3), Scaled(down, 0.5), StandardNormal(), Noisy(0.2))


def marginal_variance(layers, down=0.6):
    variance = 1.0
    for _ in range(layers - 1):
        variance = down**2 * variance + 0.5
    return variance + 0.2


@pytest.mark.parametrize("layers", [1, 2, 4])
class TestGenericChain:
    def test_weight_is_an_unbiased_estimate_of_p(self, layers):
        """E exp(log_weight) = p(x), which is Gaussian here: no part of the chain is missing or counted twice."""
        x = torch.tensor([[0.4]], dtype=torch.float64).expand(100_000, 1)
        weight = ladder(layers).log_weight(x, Draws(1)).exp().detach()
        truth = (
            isotropic(torch.zeros_like(x[:1]), torch.full((1,), marginal_variance(layers)).double()).log_prob(x[:1]).exp()
        )
        assert abs(weight.mean() - truth.item()) < 4 * weight.std() / len(x) ** 0.5

    def test_bound_is_below_log_p(self, layers):
        x = torch.tensor([[0.4]], dtype=torch.float64).expand(20_000, 1)
        total = ladder(layers).elbo(x, Draws(2)).total.detach()
        truth = isotropic(torch.zeros_like(x[:1]), torch.full((1,), marginal_variance(layers)).double()).log_prob(x[:1])
        assert total.mean() - 4 * total.std() / len(x) ** 0.5 < truth.item()

    def test_one_entry_a_layer(self, layers):
        bound = ladder(layers).elbo(torch.randn(5, 3, dtype=torch.float64), Draws(3))
        assert bound.matching.shape == (5, layers - 1)
        assert bound.dims == 3

    def test_loss_trains_every_learned_part(self, layers):
        model = ladder(layers)
        batch = Batch(torch.randn(6, 3, dtype=torch.float64), torch.arange(6))
        model.loss(batch, Draws(4)).value.mean().backward()
        assert model.encoder.slope.grad.abs() > 0
        assert layers == 1 or model.reverse.slope.grad.abs() > 0

    def test_samples_have_the_models_own_variance(self, layers):
        x = ladder(layers).sample(40_000, (1,), draws=Draws(5))
        # the variance of a sample variance of normals is 2 σ⁴/n
        assert abs(x.var() - marginal_variance(layers)) < 4 * marginal_variance(layers) * (2 / 40_000) ** 0.5


def test_vae_meets_log_p_with_the_exact_posterior():
    """T = 1, p(x) = N(0, 1.2): with q(z | x) the true posterior every log-weight is log p(x)."""
    model = MHVAE(1, Scaled(1 / 1.2, 0.2 / 1.2), Scaled(1.0, 1.0), StandardNormal(), Noisy(0.2))
    x = torch.randn(9, 2, dtype=torch.float64)
    truth = isotropic(torch.zeros_like(x), x.new_full((9,), 1.2)).log_prob(x)
    assert torch.allclose(model.elbo(x, Draws(0)).total, truth, atol=1e-12)


def test_diffusion_chain_draws_the_same_samples():
    """VDM and VDM.as_mhvae() are one model: same draws, same samples."""
    data = GaussianData.isotropic(0.2, 0.3, (3,))
    model = VDM(LinearSchedule(-6.0, 5.0), data.denoiser, GaussianLikelihood(), DiscreteTime(7))
    chain = model.as_mhvae().sample(16, (3,), draws=Draws(9))
    assert torch.allclose(model.sample(16, (3,), draws=Draws(9)), chain, atol=1e-5)


def test_diffusion_weight_is_an_unbiased_estimate_of_p():
    data = GaussianData.isotropic(0.2, 0.3, (1,))
    model = VDM(LinearSchedule(-3.0, 4.0), data.denoiser, GaussianLikelihood(), DiscreteTime(20))
    x = torch.tensor([[0.5]], dtype=torch.float64).expand(50_000, 1)
    weight = model.log_weight(x, Draws(6)).exp()
    truth = data.chain_log_prob(x[:1], torch.linspace(-3, 4, 20, dtype=torch.float64)).exp()
    assert abs(weight.mean() - truth.item()) < 4 * weight.std() / len(x) ** 0.5


def test_no_layers_are_refused():
    with pytest.raises(InvalidInput, match="at least 1"):
        ladder(0)


def test_values_that_are_not_data_are_refused():
    with pytest.raises(InvalidInput, match="not finite"):
        ladder(2).elbo(torch.full((1, 1), float("nan")))
