"""The toy densities are what they say they are: normalised, standardised, and sampled from."""

import json
import math
import re
import sys

import pytest
import torch
from PIL import Image

from support.catalogue import composed, part
from support.oracles import Mixture
from vdm.cli import train
from vdm.data import DataModule, Toy
from vdm.data.densities import checkerboard, gaussians, grid, moons, ring
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.plots.images import density_picture
from vdm.schedules import LinearSchedule
from vdm.terms import bits_per_dim
from vdm.times import StratifiedTimes
from vdm.training.build import build

DENSITIES = [ring, grid, moons, checkerboard]
REACH, CELLS = 2 * math.sqrt(3), 400  # the board's edges lie on the edges of cells


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~data.sizes.test", "data.sizes must be those of train, val and test, got train, val"),
        ("+data.sizes.extra=5", "those of train, val and test, got train, val, test, extra"),
        ("data.sizes.train=0", "data.sizes.train must be at least 1, got 0"),
        ("data.sizes.val=0", "data.sizes.val must be at least 1, got 0"),
        ("data.sizes.test=-1", "data.sizes.test must be at least 1, got -1"),
        ("data.sizes.test=60.5", "data.sizes.test must be a whole number, got 60.5"),
        ("data.sizes.test=abc", "data.sizes.test must be a whole number, got 'abc'"),
        ("data.sizes.test=null", "data.sizes.test must be a whole number, got None"),
        ("data.sizes=null", "data.sizes must be a mapping of a whole number each, got None"),
    ],
)
@pytest.mark.parametrize("experiment", ["toy", "mnist"])
def test_three_splits_have_examples(experiment, override, message):
    """Of every data set that is told their sizes, before it looks for its files."""
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        build(composed(f"experiment={experiment}", override))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=DENSITIES, ids=lambda make: make.__name__)
def density(request):
    return request.param()


@pytest.fixture(scope="module")
def cells(density):
    """Midpoints of a fine grid, (CELLS², 2), and the mass of each cell."""
    side = (torch.arange(CELLS, dtype=torch.float64) + 0.5) * (2 * REACH / CELLS) - REACH
    places = torch.cartesian_prod(side, side)
    return places, density.log_prob(places).exp() * (2 * REACH / CELLS) ** 2


class TestEveryDensity:
    def test_integrates_to_one(self, cells):
        assert abs(cells[1].sum().item() - 1) < 1e-6

    def test_is_standardised(self, density, cells):
        """sigma_data = 1 of data/toy.yaml: mean 0, and variance 1 averaged over the two dimensions."""
        places, mass = cells
        assert (places * mass[:, None]).sum(0).abs().max() < 1e-6
        assert abs((places.square().mean(1) * mass).sum() - 1) < 1e-4
        assert abs(density.variance.mean() - 1) < 1e-9
        assert composed("experiment=toy").sigma_data == 1

    def test_samples_follow_it(self, density, cells):
        """Counts in 16 × 16 boxes: Pearson's χ² is below its mean by 4 standard deviations at most."""
        places, mass = cells
        n, boxes = 50_000, 16

        def box(x):
            return (((x + REACH) / (2 * REACH) * boxes).floor().long().clamp(0, boxes - 1) * torch.tensor([boxes, 1])).sum(1)

        with torch.random.fork_rng():
            torch.manual_seed(0)
            counts = torch.bincount(box(density.sample((n,))), minlength=boxes**2).double()
        expected = n * torch.zeros(boxes**2, dtype=torch.float64).index_add_(0, box(places), mass)
        often = expected > 5
        chi2 = ((counts - expected).square() / expected)[often].sum()
        freedom = int(often.sum())
        assert chi2 < freedom + 4 * math.sqrt(2 * freedom)
        assert counts[~often].sum() < expected[~often].sum() + 4 * expected[~often].sum().sqrt() + 1

    def test_entropy_of_a_split(self, density, cells):
        """−E log p by quadrature and by the split's mean agree within four standard errors."""
        _, mass = cells
        cell = (2 * REACH / CELLS) ** 2
        exact = bits_per_dim(-(torch.xlogy(mass, mass / cell)).sum(), 2).item()
        source = Toy((2,), density, sizes={"train": 8, "val": 8, "test": 5_000})
        mean, error = DataModule(source, 8, 8).entropy("test")
        assert abs(mean - exact) < 4 * error + 1e-6


def test_checkerboard_is_exact():
    """Half of a square with side 2√3, each coordinate of variance 1."""
    density = checkerboard()
    inside, outside = torch.tensor([[-1.7, -1.7], [-0.5, -0.2]]).double(), torch.tensor([[-1.7, -0.2], [3.0, 0.0]]).double()
    assert torch.allclose(density.log_prob(inside).exp(), torch.tensor(1 / 6, dtype=torch.float64))
    assert (density.log_prob(outside) == -math.inf).all()
    with pytest.raises(InvalidInput, match="even"):
        checkerboard(3)


def test_gaussians_refuse_points():
    with pytest.raises(InvalidInput, match="deviation"):
        gaussians(torch.zeros(1, 2), 0.0)


class TestToy:
    def test_splits(self):
        data = part("data", "experiment=toy")
        splits = data.splits()
        assert {name: tuple(split.x.shape) for name, split in splits.items()} == {
            "train": (20_000, 2),
            "val": (1_000, 2),
            "test": (5_000, 2),
        }
        assert all(split.x.dtype == torch.float32 for split in splits.values())
        assert not torch.equal(splits["train"].x[:1000], splits["val"].x)

    def test_the_points_are_the_same_whatever_the_seed(self):
        before = torch.get_rng_state()
        first = part("data", "experiment=toy", "seed=0").provenance()
        torch.manual_seed(5)
        assert part("data", "experiment=toy", "seed=1").provenance() == first
        torch.set_rng_state(before)

    def test_loading_leaves_the_generator_alone(self):
        before = torch.get_rng_state()
        part("data", "experiment=toy").splits()
        assert torch.equal(torch.get_rng_state(), before)

    def test_other_densities_from_the_command_line(self):
        override = "data.density._target_=vdm.data.densities.checkerboard"
        assert part("data", "experiment=toy", override).entropy("test")[0] == pytest.approx(math.log2(6) / 2)

    def test_other_densities_are_told_apart(self):
        """By the release that stands beside every number: of one name with other settings, too."""
        overrides = [f"data.density._target_=vdm.data.densities.{make.__name__}" for make in DENSITIES]
        overrides += ["+data.density.components=7", "+data.density.deviation=0.2"]
        found = [part("data", "experiment=toy", override).provenance()["release"] for override in overrides]
        assert found[0] == "ring(components=8, deviation=0.1), drawn here, seed 20210701"
        assert len(set(found)) == len(overrides)

    def test_picture(self):
        data = part("data", "experiment=toy")
        picture = data.picture(data.splits()["val"].x)
        assert picture.size == (800, 420)
        points, without = (density_picture(x, data.source.log_prob) for x in (torch.zeros(1, 2), torch.full((1, 2), 9.0)))
        assert points.tobytes() != without.tobytes()


def test_the_ideal_bound_is_just_short_of_the_truth():
    """The ring's exact denoiser, T = ∞: −ELBO above −log p of the same points, by little (0.05 bits/dim at γ_min = −10)."""
    data = part("data", "experiment=toy")
    density = data.source.density
    parts = density.component_distribution.base_dist
    mixture = Mixture(density.mixture_distribution.probs, parts.loc, parts.variance[0, 0].item())
    vdm = VDM(LinearSchedule(-10.0, 6.0), mixture.denoiser, GaussianLikelihood(), ContinuousTime(), StratifiedTimes())
    x = data.splits()["train"].x.double()
    gap = vdm.elbo(x, Draws(0)).bits_per_dim - bits_per_dim(-data.source.log_prob(x), 2)
    error = 4 * gap.std() / math.sqrt(len(gap))
    assert -error < gap.mean() < 0.05 + error


@pytest.mark.parametrize(
    ("override", "advice"), [("likelihood=categorical", "likelihood=gaussian"), ("network=unet", "network=mlp")]
)
def test_parts_that_do_not_fit_are_refused(override, advice):
    with pytest.raises(Exception, match=advice):
        build(composed("experiment=toy", override))


def test_a_density_of_levels_is_refused():
    with pytest.raises(InvalidInput, match="likelihood=categorical"):
        build(composed("experiment=digits", "likelihood=gaussian"))


def test_a_run(tmp_path, monkeypatch, capsys):
    """From the command to a picture and a bound that stands beside −log p of the same points."""
    small = [
        "model.denoiser.network.hidden=16",
        "data.sizes.test=200",
        "data.sizes.val=50",
        "test.repeats=2",
        "validation.repeats=2",
    ]
    small += ["model.sampling.steps=5", "callbacks.sample_grid.every=1"]
    run = [
        "vdm-train",
        "experiment=toy",
        "trainer.max_steps=10",
        "trainer.val_check_interval=5",
        "trainer.accelerator=cpu",
        *small,
        f"hydra.run.dir={tmp_path}",
    ]
    monkeypatch.setattr(sys, "argv", run)
    train.main()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 < metrics["provenance"]["data"]["test_minus_log_prob_bits_per_dim"] < 1.5
    assert math.isfinite(metrics["test"]["bits_per_dim"]["value"])
    assert Image.open(tmp_path / "pictures/samples.png").size == (800, 420)
    assert "toy, whole test set" in capsys.readouterr().out
