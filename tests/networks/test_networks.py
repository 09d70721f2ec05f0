"""Laws of every network, found from the configs, and what is special about each."""

import math

import pytest
import torch
from hydra.utils import instantiate

from support.catalogue import composed, options, part
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import MLP, ClassEmbedding, FourierFeatures, UNet, VDMUNet, VectorEmbedding
from vdm.networks.blocks import Dropout, PixelHead
from vdm.networks.embedding import NoiseLevelEmbedding, check_condition
from vdm.parameterisations import NoiseParameterisation
from vdm.schedules import LinearSchedule

EVENT = (1, 8, 8)
SMALL = {"unet": ("channels=8", "blocks=1"), "vdm_unet": ("channels=8", "blocks=2"), "mlp": ("hidden=16", "blocks=2")}


def build(name, condition=None, outputs=1):
    """A small network of random weights in float64: none is zero, as some are at the start."""
    node = composed(f"network={name}", *(f"model.denoiser.network.{o}" for o in SMALL.get(name, ()))).model.denoiser.network
    torch.manual_seed(0)
    network = instantiate(node, condition=condition, outputs=outputs).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def inputs(n=3):
    stream = torch.Generator().manual_seed(1)
    x_t = torch.randn(n, *EVENT, dtype=torch.float64, generator=stream)
    return x_t, torch.linspace(-7, 4, n, dtype=torch.float64)


@pytest.mark.parametrize("name", options("network"))
class TestEveryNetwork:
    def test_shape_and_dtype(self, name):
        x_t, gamma_t = inputs()
        y = build(name)(x_t, gamma_t)
        assert y.shape == x_t.shape
        assert y.dtype == torch.float64
        assert part("model.denoiser.network", f"network={name}")(x_t.float(), gamma_t.float()).dtype == torch.float32

    def test_other_event_shapes_are_refused(self, name):
        """Convolutions would take them, and a bound of half an image would look like any other."""
        x_t, gamma_t = inputs()
        for other in (x_t[..., :4], x_t[:, 0], x_t[0]):
            with pytest.raises(InvalidInput, match=r"takes batches of examples \(1, 8, 8\), got"):
                build(name)(other, gamma_t)

    def test_several_outputs_a_dimension(self, name):
        """One axis more, at the end."""
        x_t, gamma_t = inputs()
        assert build(name, outputs=5)(x_t, gamma_t).shape == (*x_t.shape, 5)
        alone = build(name, outputs=5)(x_t[:1], gamma_t[:1])
        assert torch.allclose(build(name, outputs=5)(x_t, gamma_t)[:1], alone, atol=1e-12)

    def test_initial_output_is_zero(self, name):
        """y = 0 before training: the prediction is the parameterisation's own, such as the best linear denoiser."""
        x_t, gamma_t = inputs()
        assert not part("model.denoiser.network", f"network={name}").double()(x_t, gamma_t).any()

    def test_examples_are_independent(self, name):
        network, (x_t, gamma_t) = build(name), inputs()
        alone = torch.cat([network(x_t[i : i + 1], gamma_t[i : i + 1]) for i in range(3)])
        assert torch.allclose(network(x_t, gamma_t), alone, atol=1e-12)

    def test_output_depends_on_the_noise_level(self, name):
        network, (x_t, gamma_t) = build(name), inputs()
        assert not torch.allclose(network(x_t, gamma_t), network(x_t, gamma_t + 0.5), atol=1e-4)

    def test_every_weight_has_a_gradient(self, name):
        network, (x_t, gamma_t) = build(name, ClassEmbedding(3, 4).double()), inputs()
        network(x_t, gamma_t, torch.tensor([0, 1, 2])).square().sum().backward()
        dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
        assert not dead

    @pytest.mark.parametrize(
        ("embedding", "condition"),
        [(ClassEmbedding(3, 4), torch.tensor([0, 1, 2])), (VectorEmbedding(2, 4), torch.eye(3)[:, :2])],
        ids=["class", "vector"],
    )
    def test_output_depends_on_the_condition(self, name, embedding, condition):
        network, (x_t, gamma_t) = build(name, embedding.double()), inputs()
        x_t, gamma_t = x_t[:1].expand(3, *EVENT), gamma_t[:1].expand(3)
        y = network(x_t, gamma_t, condition.double())
        assert (y[0] - y[1]).abs().max() > 1e-4
        assert (y[1] - y[2]).abs().max() > 1e-4

    def test_missing_or_unexpected_condition_is_refused(self, name):
        x_t, gamma_t = inputs()
        with pytest.raises(InvalidInput, match="pass condition="):
            build(name, ClassEmbedding(3, 4).double())(x_t, gamma_t)
        with pytest.raises(InvalidInput, match="without a condition"):
            build(name)(x_t, gamma_t, torch.tensor([0, 1, 2]))

    def test_condition_reaches_loss_elbo_and_samples(self, name):
        """With the same draws another condition gives another number, for exactly the rows whose condition changed."""
        denoiser = Denoiser(build(name, ClassEmbedding(3, 4).double()), NoiseParameterisation())
        model = VDM(LinearSchedule(-6.0, 4.0), denoiser, CategoricalLikelihood(17), DiscreteTime(5)).eval()
        x = torch.randint(17, (3, *EVENT), generator=torch.Generator().manual_seed(2)).double()
        before, after = torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2])
        index = torch.arange(3)

        def latents(condition):
            torch.set_default_dtype(torch.float64)
            try:
                *_, last = model.trajectory(3, EVENT, draws=Draws(0), condition=condition)
            finally:
                torch.set_default_dtype(torch.float32)
            return last.x_t.flatten(1).sum(1)

        for estimate in (
            lambda condition: model.loss(Batch(x, index, condition), Draws(0)).value,
            lambda condition: model.elbo(x, Draws(0), condition).total,
            lambda condition: model.elbo_all_times(x, Draws(0), condition, rows=6).total,
            latents,
        ):
            with torch.no_grad():
                difference = (estimate(before) - estimate(after)).abs()
            assert difference[1] > 1e-6
            assert difference[[0, 2]].max() < 1e-9


class TestNoiseLevel:
    def test_embedding_depends_on_relative_gamma_only(self):
        gamma = torch.linspace(-10, 5, 7, dtype=torch.float64)
        first, second = NoiseLevelEmbedding(8, -10.0, 5.0), NoiseLevelEmbedding(8, -3.0, 12.0)
        assert torch.allclose(first.sinusoids(gamma), second.sinusoids(gamma + 7))

    def test_sinusoids(self):
        """sin and cos of 1000 (γ − γ_min)/(γ_max − γ_min) · 10^(−4k/(n − 1)), k = 0 … n − 1, in γ's own precision."""
        embedding = NoiseLevelEmbedding(8, -10.0, 6.0, width=6)
        got = embedding.sinusoids(torch.tensor([2.0], dtype=torch.float64))[0]
        angles = [750 * 10 ** (-4 * k / 2) for k in range(3)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert got.tolist() == pytest.approx(expected, abs=1e-12)


class TestVDMUNet:
    @pytest.mark.parametrize(("channels", "blocks", "millions"), [(128, 32, "30.6"), (128, 8, "8.9"), (64, 8, "2.24")])
    def test_published_sizes(self, channels, blocks, millions):
        """30.6M weights for CIFAR-10 (Kingma et al. 2021); the others are the same network with fewer blocks or channels."""
        with torch.device("meta"):
            network = VDMUNet((3, 32, 32), channels, blocks, -13.3, 5.0, fourier=FourierFeatures())
        weights = sum(p.numel() for p in network.parameters())
        assert f"{weights / 1e6:.{len(millions.partition('.')[2])}f}" == millions

    def test_attention_everywhere_or_in_the_middle(self):
        middle, everywhere = (VDMUNet(EVENT, 8, 3, -8.0, 5.0, attention_everywhere=choice) for choice in (False, True))
        count = [sum("qkv.weight" in key for key in network.state_dict()) for network in (middle, everywhere)]
        assert count == [1, 1 + 3 + 4]

    def test_dropout_is_active_in_training_only(self):
        network, (x_t, gamma_t) = build("vdm_unet"), inputs()
        assert torch.equal(network(x_t, gamma_t), network(x_t, gamma_t))
        network.train()
        assert not torch.equal(network(x_t, gamma_t), network(x_t, gamma_t))

    def test_keeps_the_resolution(self):
        """Every map is as large as the image, whose sides need no common factor."""
        network = VDMUNet((2, 5, 7), 8, 2, -8.0, 5.0)
        sizes = set()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda _, __, out: sizes.add(tuple(out.shape[2:])))
        network(torch.randn(1, 2, 5, 7), torch.zeros(1))
        assert sizes == {(5, 7)}


class TestFourierFeatures:
    def test_formula(self):
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
        features = FourierFeatures((6, 7))(x)
        angles = torch.cat([2 * math.pi * 2**n * x[:, c : c + 1] for c in range(3) for n in (6, 7)], 1)
        assert torch.allclose(features, torch.cat([x, angles.sin(), angles.cos()], 1))
        assert features.shape[1] == FourierFeatures((6, 7)).channels(3)

    @pytest.mark.parametrize(("levels", "there"), [(0, False), (17, False), (32, False), (33, True), (256, True)])
    def test_only_for_many_levels(self, levels, there):
        network = part("model.denoiser.network", "network=vdm_unet", "parameterisation=noise", f"levels={levels}")
        assert (network.fourier is not None) is there
        assert network.first.in_channels == (5 if there else 1)


@pytest.mark.parametrize("network", [UNet, VDMUNet])
def test_other_events_than_images_are_refused(network):
    arguments = {"multipliers": [1]} if network is UNet else {}
    with pytest.raises(InvalidInput, match="network=mlp"):
        network((2,), channels=8, blocks=1, gamma_min=-8.0, gamma_max=5.0, **arguments)


def test_head_keeps_channels_and_outputs_apart():
    """Output k of channel c is row c · outputs + k of the linear map, at the same pixel."""
    head = PixelHead(4, 2, 3).double()
    torch.nn.init.normal_(head.linear.weight)
    features = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    y = head(features)
    assert y.shape == (1, 2, 5, 6, 3)
    assert torch.allclose(y[0, 1, 2, 3], head.linear.weight[3:] @ features[0, :, 2, 3])


def test_unet_refuses_sides_it_cannot_halve():
    with pytest.raises(InvalidInput, match="6×8"):
        UNet((1, 6, 8), channels=8, multipliers=[1, 1, 1], blocks=1, gamma_min=-8.0, gamma_max=5.0)


def test_unet_refuses_heads_that_do_not_divide():
    with pytest.raises(InvalidInput, match="heads=3"):
        UNet(EVENT, channels=8, multipliers=[1], blocks=1, gamma_min=-8.0, gamma_max=5.0, attention=[8], heads=3)


def test_unet_attention_is_at_the_given_resolutions():
    network = UNet(EVENT, channels=8, multipliers=[1, 1], blocks=1, gamma_min=-8.0, gamma_max=5.0, attention=[4])
    sizes = set()
    for module in network.modules():
        if hasattr(module, "qkv"):
            module.register_forward_hook(lambda _, __, out: sizes.add(out.shape[2]))
    network(torch.randn(1, *EVENT), torch.zeros(1))
    assert sizes == {4}


def test_mlp_takes_any_event():
    network = MLP((2, 3), hidden=8, blocks=1, gamma_min=-8.0, gamma_max=5.0)
    assert network(torch.randn(4, 2, 3), torch.zeros(4)).shape == (4, 2, 3)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_is_a_probability(p):
    with pytest.raises(InvalidInput, match="from 0 to less than 1"):
        Dropout(p)


@pytest.mark.parametrize(
    ("embedding", "condition", "message"),
    [
        (ClassEmbedding(3, 4), torch.tensor([0, 3]), "labels 0 … 2 .* got 0 to 3"),
        (ClassEmbedding(3, 4), torch.tensor([-1, 2]), "labels 0 … 2 .* got -1 to 2"),
        (ClassEmbedding(3, 4), torch.eye(3), "labels 0 … 2"),
        (VectorEmbedding(2, 4), torch.eye(3), r"vectors of 2 features, got shape \(3, 3\)"),
        (VectorEmbedding(2, 4), None, "the data have none"),
    ],
)
def test_check_condition_refuses_wrong_conditions(embedding, condition, message):
    network = build("mlp", embedding)
    check_condition(network, torch.eye(3)[:, :2] if isinstance(embedding, VectorEmbedding) else torch.tensor([2, 0]))
    with pytest.raises(InvalidInput, match=message):
        check_condition(network, condition)


def test_condition_without_an_embedding_is_refused():
    check_condition(build("mlp"), None)
    for refusing in (check_condition, lambda network, condition: network(*inputs(2), condition)):
        with pytest.raises(InvalidInput, match="built without a condition: give it a condition embedding"):
            refusing(build("mlp"), torch.tensor([1, 0]))
