"""FID and sample metrics: exact answers, agreement with torch-fidelity, and the cache of the data's moments."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from support.catalogue import composed, concrete, options, part
from vdm.data import DataModule, Source, Split
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput
from vdm.evaluation.samples.features import FeatureNetwork, Inception, RandomConvolutions, as_images
from vdm.evaluation.samples.fid import FID
from vdm.evaluation.samples.moments import Moments, moments_file, read_moments, write_moments
from vdm.evaluation.samples.sample_metrics import KID, InceptionScore, PrecisionRecall, SampleMetric

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)


class Pixels(FeatureNetwork):
    """The bytes as features."""

    name, num_features = "pixels", 16

    def features(self, images):
        return images[:, 0].flatten(1).double()


class Pictures(Source):
    """A data set of the given images."""

    name = "pictures"

    def __init__(self, x):
        super().__init__(x.shape[1:])
        self.x = x

    def load(self):
        return {"train": Split(self.x)}

    def picture(self, x):
        raise NotImplementedError


class Known(nn.Module):
    """A model whose samples are a function of their index and noise."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def sample(self, n, event_shape, *, draws, condition=None):
        return self.function(torch.tensor(draws.index), draws.normal("x", torch.empty(n, *event_shape)))


def rough(index, noise):
    """Random levels 0 … 16 around 9, darker at the top."""
    return (3 * noise + 9 - torch.arange(4.0)[:, None]).round().clamp(0, 16).long()


def images(n, levels=17, shape=SHAPE, seed=0):
    return torch.randint(0, levels, (n, *shape), generator=torch.Generator().manual_seed(seed))


def score(fid, model, x, levels=17, metrics=()):
    data = DataModule(Pictures(x), batch_size=1, eval_batch_size=1)
    fid.check(model, data, levels)
    fid.prepare(data, levels, CPU)
    return fid(model, data, lambda done: None, metrics)


@pytest.mark.parametrize("levels", [2, 3, 8, 17, 256])
def test_as_images_rounds_levels_to_bytes(levels):
    """255 k/(K − 1) is rounded, not truncated: the error is at most a half."""
    k = torch.arange(levels)
    byte = as_images(k.view(-1, 1, 1, 1), levels)
    assert byte.dtype == torch.uint8
    assert byte.shape == (levels, 3, 1, 1)
    assert (byte.long() * (levels - 1) - 255 * k.view(-1, 1, 1, 1)).abs().max() <= (levels - 1) / 2
    assert torch.equal(byte[:, 0], byte[:, 2])
    colour = images(5, levels, (3, 2, 2))
    assert torch.equal(as_images(colour, levels)[:, :1].expand(-1, 3, -1, -1), as_images(colour[:, :1], levels))


@pytest.mark.parametrize("factor", [1, 2])
def test_fid_of_scaled_features_is_exact(factor):
    """For y = a x + c, Σ_y = a² Σ and the FID is |(a − 1) μ + c|² + (a − 1)² tr Σ."""
    x, shift = images(40, 100), 7
    model = Known(lambda index, noise: factor * x[index] + shift)
    found = score(FID(Pixels(), 40, batch_size=7), model, x, levels=256)
    features = x.flatten(1).double()
    moved = ((factor - 1) * features.mean(0) + shift).square().sum()
    assert found["fid_pixels"] == pytest.approx((moved + (factor - 1) ** 2 * features.var(0).sum()).item(), rel=1e-6)


def test_fid_is_independent_of_batch_size():
    values = [score(FID(RandomConvolutions(), 50, batch_size=size), Known(rough), images(60)) for size in (50, 7)]
    assert values[0]["fid_random_conv"] == pytest.approx(values[1]["fid_random_conv"], rel=1e-5)


def test_random_network_weights_are_fixed():
    assert RandomConvolutions().identity()["sha256"] == "8c692138f3137611"


def test_random_network_fid_rises_with_noise():
    """The FID rises with the share of pixels replaced by noise."""
    x = part("data", "data=digits").splits()["train"].x.long()

    def noisy(share):
        def sample(index, noise):
            other = images(len(x), seed=1, shape=x.shape[1:])[index]
            return torch.where(noise.sigmoid() < share, other, x[index])

        return score(FID(RandomConvolutions(), 500), Known(sample), x[500:])["fid_random_conv"]

    values = [noisy(share) for share in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values)
    assert values[3] > 10 * values[0]


class Images(Dataset):
    """Images as a dataset, as torch-fidelity expects."""

    def __init__(self, x, levels):
        self.images = as_images(x, levels)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def by_torch_fidelity(samples, x, levels, **settings):
    fidelity = importlib.import_module("torch_fidelity")
    return fidelity.calculate_metrics(
        input1=Images(samples, levels),
        input2=Images(x, levels),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
        **settings,
    )


def all_samples(n, shape=SHAPE):
    """Return the samples of ``Known(rough)``."""
    return Known(rough).sample(n, shape, draws=ExampleDraws(torch.arange(n)))


def test_scores_equal_torch_fidelity():
    """FID, KID, precision and recall from the same images and feature network."""
    fidelity = importlib.import_module("torch_fidelity")
    base = importlib.import_module("torch_fidelity.feature_extractor_base").FeatureExtractorBase

    class Extractor(base):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)
            self.network = RandomConvolutions()

        @staticmethod
        def get_provided_features_list():
            return ("128",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "128"

        def forward(self, x):
            return (self.network.features(x),)

    fidelity.register_feature_extractor("random_conv", Extractor)
    x, n = images(230), 211
    theirs = by_torch_fidelity(
        all_samples(n),
        x,
        17,
        feature_extractor="random_conv",
        fid=True,
        kid=True,
        kid_subsets=5,
        kid_subset_size=100,
        rng_seed=3,
        prc=True,
    )
    ours = score(FID(RandomConvolutions(), n, batch_size=64), Known(rough), x, 17, [KID(5, 100, 3), PrecisionRecall()])
    expected = {
        "fid_random_conv": theirs["frechet_inception_distance"],
        "kid_random_conv": theirs["kernel_inception_distance_mean"],
        "kid_random_conv_subset_sd": theirs["kernel_inception_distance_std"],
        "precision_random_conv": theirs["precision"],
        "recall_random_conv": theirs["recall"],
    }
    assert ours == pytest.approx(expected, rel=1e-5)
    assert ours["kid_random_conv"] > 0.01


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """A file of random weights in torch-fidelity's format."""
    source = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(source, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(source.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        weights = source.FeatureExtractorInceptionV3("random", ["2048"]).state_dict()
    torch.save(weights, path)
    return path


@pytest.mark.slow
def test_inception_scores_equal_torch_fidelity(inception_file):
    x, n = images(12), 11
    theirs = by_torch_fidelity(
        all_samples(n),
        x,
        17,
        feature_extractor_weights_path=str(inception_file),
        fid=True,
        isc=True,
        isc_splits=3,
        kid=True,
        kid_subsets=2,
        kid_subset_size=8,
        rng_seed=0,
    )
    before = torch.get_rng_state()
    network = Inception(str(inception_file), sha256=None)
    assert torch.equal(before, torch.get_rng_state())
    ours = score(FID(network, n), Known(rough), x, 17, [KID(2, 8), InceptionScore(3)])
    assert ours["fid_inception"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["kid_inception"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["score_inception"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)


def test_moments_are_exact_and_read_back(tmp_path):
    features = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    moments = Moments.from_sums(30, features.sum(0), features.T @ features)
    assert torch.allclose(moments.covariance, torch.cov(features.T), rtol=1e-9, atol=1e-9)
    write_moments(tmp_path, {"data": "a"}, moments)
    kept = read_moments(tmp_path, {"data": "a"})
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(kept, moments, strict=True))
    assert read_moments(tmp_path, {"data": "b"}) is None
    assert torch.allclose(kept.sums()[2], features.T @ features, rtol=1e-12)


def test_data_moments_are_measured_once(tmp_path, monkeypatch):
    """Other images, levels or features are measured again; a damaged file is replaced."""
    x, seen = images(60), []
    measure = FID._measure
    monkeypatch.setattr(FID, "_measure", lambda self, x: seen.append(len(x)) or measure(self, x))

    def value(x=x, levels=17, network=RandomConvolutions):
        (found,) = score(FID(network(), 50, cache=str(tmp_path)), Known(rough), x, levels).values()
        return found

    first = value()
    assert value() == first
    assert len(seen) == 1
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert value() == first
    assert len(seen) == 2
    assert value() == first
    assert len(seen) == 2
    others = [value(x=images(60, seed=1)), value(levels=18), value(network=Pixels)]
    assert len({first, *others}) == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_reading_moments_runs_no_code(tmp_path):
    path = moments_file(tmp_path, {})
    np.savez(path, about=np.array([print], dtype=object))
    assert read_moments(tmp_path, {}) is None


def test_every_network_and_metric_has_a_yaml():
    named = {composed(f"fid={option}").fid.network._target_ for option in options("fid")}
    assert named == {f"{kind.__module__}.{kind.__name__}" for kind in concrete(FeatureNetwork)}
    metrics = composed("ckpt=unused", config="evaluate").relatives
    assert set(metrics) == set(options("relative"))
    assert {node._target_ for node in metrics.values()} == {f"{k.__module__}.{k.__name__}" for k in concrete(SampleMetric)}


def test_loading_weights_runs_no_code(tmp_path):
    path = tmp_path / "bad.pth"
    torch.save({"weights": print}, path)
    with pytest.raises(InvalidInput, match="does not hold the weights"):
        Inception(str(path), sha256=None)


def test_metrics_refuse_unsuitable_settings():
    with pytest.raises(InvalidInput, match=r"lower relatives\.kid"):
        KID(subset_size=100).check(Pixels(), 99, 1000)
    with pytest.raises(InvalidInput, match="needs a classifier"):
        InceptionScore().check(Pixels(), 99, 1000)
    with pytest.raises(InvalidInput, match="3 neighbours"):
        PrecisionRecall().check(Pixels(), 3, 1000)
