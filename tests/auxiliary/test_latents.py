"""Laws of every family of auxiliary latents, found from the configs, and of the model that they make."""

import math
from itertools import combinations

import pytest
import torch
from torch import nn

from support.catalogue import options, part
from support.equal_models import assert_same_estimates, assert_same_forms
from support.given_draws import GivenDraws
from vdm.auxiliary import AuxiliaryLatent, GaussianLatent, KHotLatent, OneHotLatent
from vdm.auxiliary.k_hot import subset_table
from vdm.auxiliary.published import categorical_kl_of_k_hot, perturbed_top_k, sum_of_gamma_noise
from vdm.batch import Batch
from vdm.draws import Draws, ExampleDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation import BoundAt, BoundEvaluation, ImportanceWeighted, StratifiedBound
from vdm.gamma import align, alpha_bar, sigma2
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM, LatentVDM
from vdm.parameterisations import Prediction
from vdm.schedules import LinearSchedule, PolynomialSchedule
from vdm.terms import AUXILIARY

FAMILIES = {name: part("model.latent.family", f"auxiliary={name}") for name in options("auxiliary")}
N = 1000


def logits(size, scale=1.0, n=1, seed=0):
    return scale * torch.randn(n, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
class TestEveryFamily:
    def test_kl_is_the_mean_log_ratio(self, family):
        """Over draws from the family's own q, within four standard errors."""
        parameters = logits(family.parameters).expand(N, -1)
        ratios = family.log_ratio(parameters, family.draw(parameters, Draws(1)))
        assert abs(ratios.mean() - family.kl(parameters)[0]) < 4 * ratios.std() / N**0.5
        assert family.kl(parameters)[0] > 0.1

    def test_mean_weight_is_one(self, family):
        """E_p q/p = 1 over draws from the prior: log q and p are normalised over the same z."""
        parameters = logits(family.parameters, 0.3).expand(N, -1)
        weights = family.log_ratio(parameters, family.prior(torch.zeros(N, 1, dtype=torch.float64), Draws(2))).exp()
        assert abs(weights.mean() - 1) < 4 * weights.std() / N**0.5

    def test_draws_have_gradients(self, family):
        parameters = logits(family.parameters, n=3).requires_grad_()
        (family.draw(parameters, Draws(0)) * torch.arange(family.size)).sum().backward()
        assert parameters.grad.abs().sum() > 0
        assert torch.isfinite(parameters.grad).all()


def all_k_hot(size, k):
    z = torch.zeros(math.comb(size, k), size, dtype=torch.float64)
    for row, chosen in zip(z, combinations(range(size), k), strict=True):
        row[list(chosen)] = 1
    return z


@pytest.mark.parametrize(("size", "k"), [(2, 1), (5, 2), (10, 3), (9, 8), (12, 4)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 40.0])
def test_k_hot_by_enumeration(size, k, scale):
    """Z, the marginals and the KL of dynamic programming are those of all C(L, k) vectors."""
    ell, z = logits(size, scale, seed=k), all_k_hot(size, k)
    log_q = torch.log_softmax(z @ ell[0], 0)
    table, family = subset_table(ell, k), KHotLatent(size, k)
    assert torch.allclose(table.log_total, torch.logsumexp(z @ ell[0], 0), rtol=1e-12)
    assert torch.allclose(table.mean[0], log_q.exp() @ z, rtol=1e-9, atol=1e-14)
    kl = (log_q.exp() * (log_q + math.log(len(z)))).sum()
    assert torch.allclose(family.kl(ell), kl, rtol=1e-10, atol=1e-12)
    assert torch.allclose(family.log_ratio(ell.expand(len(z), -1), z), log_q + math.log(len(z)), rtol=1e-10, atol=1e-10)


def test_k_hot_draws_have_their_probabilities():
    """Frequencies of all ten vectors, within four standard errors; each draw has k ones."""
    family, ell, n = KHotLatent(5, 2), logits(5), 100_000
    drawn = family.draw(ell.expand(n, -1), Draws(3))
    assert (drawn.sum(1) == 2).all()
    z = all_k_hot(5, 2)
    exact = torch.softmax(z @ ell[0], 0)
    frequency = (drawn[:, None] == z).all(2).double().mean(0)
    assert ((frequency - exact).abs() < 4 * (exact * (1 - exact) / n).sqrt()).all()


def test_one_hot_is_k_hot_with_one():
    ell, z = logits(6, 2.0, n=4), torch.eye(6, dtype=torch.float64)[:4]
    one, k = OneHotLatent(6), KHotLatent(6, 1)
    assert torch.allclose(one.kl(ell), k.kl(ell), rtol=1e-10)
    assert torch.allclose(one.log_ratio(ell, z), k.log_ratio(ell, z), rtol=1e-10)


def test_k_hot_in_float32_with_large_logits():
    ell = logits(50, 200.0, n=4).float().requires_grad_()
    family = KHotLatent(50, 15)
    kl = family.kl(ell)
    kl.sum().backward()
    assert torch.isfinite(kl).all()
    assert torch.isfinite(ell.grad).all()
    assert (family.draw(ell, Draws(0)).sum(1) == 15).all()
    assert torch.allclose(kl.double(), family.kl(ell.double()), rtol=1e-4)


@pytest.mark.parametrize("hot", [0, 5])
def test_k_out_of_range_is_refused(hot):
    with pytest.raises(InvalidInput, match="from 1 to size − 1 = 4"):
        KHotLatent(5, hot)


@pytest.mark.parametrize(("scale", "above"), [(4.0, True), (40.0, False)])
def test_published_kl_is_no_bound_of_the_right_one(scale, above):
    """The categorical's KL against that of the 3-hot vector as drawn, from 60,000 draws: above it, and below it."""
    ell, n = logits(10, scale), 60_000
    code, torch_state = torch.zeros(1024, dtype=torch.float64), torch.get_rng_state()
    torch.manual_seed(0)
    gammas = torch.distributions.Gamma(torch.full((10, n, 10), 1 / 3), 1.0).sample().double()
    torch.set_rng_state(torch_state)
    z = perturbed_top_k(ell.expand(n, -1), sum_of_gamma_noise(gammas, 3), 3)
    code = torch.bincount((z.long() * 2 ** torch.arange(10)).sum(1), minlength=1024).double() / n
    right = (code[code > 0] * code[code > 0].log()).sum().item() + math.log(math.comb(10, 3))
    published = categorical_kl_of_k_hot(ell).item()
    assert (published > right + 1) == above
    assert (published < right - 1) == (not above)


class Fixed(nn.Module):
    """The same parameters of q for every x."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters_of_q = nn.Parameter(torch.as_tensor(parameters, dtype=torch.float64))

    def forward(self, x):
        return self.parameters_of_q.expand(len(x), -1)


COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
"""Of the Gaussian data (2,), whose dimensions depend on each other, so that a path for each dimension matters."""


class IdealDenoiser(nn.Module):
    """E[x | x_t] of that data, with any γ for each dimension; it needs no latent."""

    def with_condition(self, latent):
        return self

    def forward(self, x_t, gamma_t):
        signal = align(alpha_bar(gamma_t).sqrt(), x_t).expand_as(x_t)
        noise2 = align(sigma2(gamma_t), x_t).expand_as(x_t)
        covariance = COVARIANCE.to(x_t)
        total = signal[:, :, None] * covariance * signal[:, None] + torch.diag_embed(noise2)
        x_hat = (covariance * signal[:, None]) @ torch.linalg.solve(total, x_t[..., None])
        return Prediction.from_x_0(x_hat[..., 0], x_t, gamma_t)


def latent_model(time, family, parameters, bend=1.0, ends=(-12.0, 10.0)):
    """A model of that data whose path depends on z, by ``bend``, differently in each dimension."""
    schedule = PolynomialSchedule(*ends, (2,), latent=family.size, hidden=4).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in schedule.parameters():
        parameter.data.normal_(0, bend, generator=generator)
    vdm = VDM(schedule.requires_grad_(False), IdealDenoiser(), GaussianLikelihood(), time)
    return LatentVDM(vdm, AuxiliaryLatent(family, lambda features: Fixed(parameters))).requires_grad_(False)


def data(n, seed=0):
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise @ torch.linalg.cholesky(COVARIANCE).T


def log_p(x):
    return torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), COVARIANCE).log_prob(x)


def sigma_points(times):
    """(x, ε) whose mean of a quadratic function is that over the data and N(0, I), each for every one of ``times``."""
    moves = 2 * torch.cat([torch.eye(4), -torch.eye(4)]).double()
    x, eps = moves[:, :2] @ torch.linalg.cholesky(COVARIANCE).T, moves[:, 2:]
    return x.repeat(times, 1), eps.repeat(times, 1)


@pytest.mark.parametrize("seed", range(3))
def test_any_path_for_each_pixel_gives_log_p(seed):
    """T = ∞ with the ideal denoiser: −ELBO is the entropy, whichever paths the latent chooses."""
    n = 4000
    schedule = latent_model(ContinuousTime(), GaussianLatent(3), torch.zeros(6), 1.5).schedule
    bound = schedule.with_condition(logits(3, 2.0, seed=seed))
    gamma = bound(torch.tensor([0.3, 0.6], dtype=torch.float64))
    assert (gamma[:, 0] - gamma[:, 1]).abs().max() > 0.5
    x, eps = sigma_points(n)
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).repeat_interleave(8)
    vdm = VDM(bound, IdealDenoiser(), GaussianLikelihood(), ContinuousTime())
    total = vdm.elbo(x, GivenDraws({"t": u, "x_t": eps, "x_1": eps})).total.mean()
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * COVARIANCE)
    assert abs(-total - entropy) < 1e-3


class TestConstantLatent:
    """A latent that says nothing, with γ and denoiser that do not depend on it: the VDM, bit for bit, in every form."""

    x = data(6)

    def models(self, time):
        latent = latent_model(time, OneHotLatent(2), torch.zeros(2), bend=0.0)
        plain = VDM(latent.schedule, latent.denoiser, latent.likelihood, time)
        return plain, latent

    @pytest.mark.parametrize("time", [DiscreteTime(7), ContinuousTime()], ids=str)
    def test_estimates(self, time):
        assert_same_estimates(*self.models(time), self.x)

    def test_forms_of_the_bound(self):
        assert_same_forms(*self.models(DiscreteTime(7)), self.x)

    @pytest.mark.parametrize("spacing", options("spacing"))
    def test_samples(self, spacing):
        grid = part("model.sampling.spacing", f"spacing={spacing}")
        plain, latent = self.models(ContinuousTime())
        first, second = (m.sample(4, (2,), steps=5, spacing=grid, draws=Draws(1)) for m in (plain, latent))
        assert torch.equal(first, second)


PARAMETERS = torch.tensor([1.0, -0.5, 0.0, 0.5])


def test_terms_add_up_with_the_latent():
    model, x = latent_model(ContinuousTime(), KHotLatent(4, 2), PARAMETERS), data(5)
    terms = model.elbo(x, Draws(0)).terms()
    assert tuple(terms) == model.term_names
    assert (terms[AUXILIARY] > 0.01).all()
    total, *parts = terms.values()
    assert torch.allclose(sum(parts), total)
    loss = model.loss(Batch(x, torch.arange(5)), Draws(0))
    assert torch.allclose(loss.value, -loss.bound.total / 2)


def test_both_forms_have_the_latent():
    """Means over 4000 draws, within four standard errors: the consistency form has the KL as well."""
    model, x = latent_model(DiscreteTime(4), KHotLatent(4, 2), PARAMETERS, ends=(-4.0, 4.0)), data(1).expand(4000, -1)
    first, second = model.elbo_all_times(x, Draws(0)).total, model.consistency_elbo(x, Draws(1)).total
    assert abs(first.mean() - second.mean()) < 4 * (first.var() / 4000 + second.var() / 4000).sqrt()
    single = model.elbo(x, Draws(2)).total
    assert abs(first.mean() - single.mean()) < 4 * (first.var() / 4000 + single.var() / 4000).sqrt()


def test_copies_keep_their_latents():
    """The KLs of all steps belong to one z an example: those of a batch do not depend on how many run together."""
    model, x = latent_model(DiscreteTime(6), GaussianLatent(2), PARAMETERS), data(3)
    few, many = (model.elbo_all_times(x, ExampleDraws(torch.arange(3)), rows=rows).matching for rows in (3, 100))
    assert torch.allclose(few, many, rtol=1e-12)


def test_estimators_report_the_latent():
    model, batch = latent_model(ContinuousTime(), KHotLatent(4, 2), PARAMETERS), Batch(data(8), torch.arange(8))
    kl = KHotLatent(4, 2).kl(PARAMETERS[None].double()).item() / (2 * math.log(2))
    (stratified,) = StratifiedBound(0.05)(model, batch, lambda _: None)
    (at,) = BoundAt([ContinuousTime()], repeats=64)(model, batch, lambda _: None)
    for result in (stratified, at):
        assert result.terms[AUXILIARY].value == pytest.approx(kl, rel=1e-6)
    headlines = [result.terms["bits_per_dim"] for result in (stratified, at)]
    difference = headlines[0].value - headlines[1].value
    assert abs(difference) < 4 * math.hypot(*(headline.mc_se for headline in headlines))
    assert BoundEvaluation(2)(model, batch).shape == (5, 8, 2)


def test_importance_weighting_rises_towards_log_p():
    """The gap to log p, mostly the KL of the latent at K = 1, shrinks with K, and the bound stays below log p."""
    model, x = latent_model(DiscreteTime(40), OneHotLatent(4), 2 * PARAMETERS, ends=(-7.0, 7.0)), data(24)
    estimator = ImportanceWeighted(64, repeats=4)
    weights = estimator.log_weights(model, Batch(x, torch.arange(24)), lambda _: None)
    exact = log_p(x).mean()
    gaps = []
    for k in (1, 8, 64):
        bound = torch.logsumexp(weights.view(24, -1, k), -1) - math.log(k)
        error = (bound.var(1).mean() / bound.numel()).sqrt()
        gaps.append(exact - bound.mean())
        assert gaps[-1] > -4 * error - 0.02
    assert gaps[0] > 2 * gaps[1] > 3 * gaps[2]


def test_a_data_condition_is_refused():
    model, x = latent_model(ContinuousTime(), GaussianLatent(2), PARAMETERS), data(3)
    with pytest.raises(InvalidInput, match="takes no other condition"):
        model.elbo(x, Draws(0), condition=torch.zeros(3))
    with pytest.raises(InvalidInput, match="no Markovian HVAE"):
        model.as_mhvae()


def test_a_schedule_without_a_latent_stays_itself():
    schedule = LinearSchedule(-6.0, 5.0)
    assert schedule.with_condition(torch.zeros(3, 2)) is schedule
    assert schedule.shared is schedule
