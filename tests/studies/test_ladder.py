"""The ladder from the free MHVAE to the VDM: the last rung is the VDM, and every model runs with the same commands."""

import json
import struct
import sys
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from support.catalogue import composed, options, part
from support.oracles import GaussianData
from vdm.cli import evaluate, report, sample, train
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import DiscretisedGaussianLikelihood, GaussianLikelihood, LearnedVariance
from vdm.models import (
    MHVAE,
    VDM,
    DiffusionEncoder,
    LatentModel,
    LatentVDM,
    LearnedDecoder,
    LearnedReverse,
    RelaxedVDM,
    StandardNormal,
)
from vdm.networks import MLP, FusionMLP
from vdm.parameterisations import VelocityParameterisation
from vdm.process import FORWARD
from vdm.schedules import LinearSchedule
from vdm.studies.ladder import layers_of, read_picture, read_runs
from vdm.terms import TERMS

RUNGS = [name for name in options("rung") if name[0].isdigit()]
DIGITS = torch.randint(17, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def network_vdm(timesteps):
    """A VDM with random weights and the discretised Gaussian likelihood."""
    torch.manual_seed(0)
    network = MLP((1, 8, 8), 16, 1, -3.0, 5.0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    denoiser = Denoiser(network, VelocityParameterisation()).double()
    likelihood = DiscretisedGaussianLikelihood(17, LearnedVariance())
    return VDM(LinearSchedule(-3.0, 5.0), denoiser, likelihood, DiscreteTime(timesteps)).double()


@pytest.mark.parametrize("timesteps", [2, 3, 8, 50])
class TestLastRung:
    def test_is_the_vdm_path_by_path(self, timesteps):
        """The generic bound (1.32) on the diffusion's kernels equals (1.46): every term, at the same draws, to 1e-9."""
        model, x = network_vdm(timesteps), DIGITS.double()
        chain, form = model.as_mhvae().elbo(x, Draws(3)), model.consistency_elbo(x, Draws(3))
        for generic, own in (
            (chain.reconstruction, form.reconstruction),
            (chain.prior_matching, form.prior_log_ratio),
            (chain.matching, form.log_ratios),
            (chain.total, model.log_weight(x, Draws(3))),
            (model.as_mhvae().log_weight(x, Draws(3)), form.total),
        ):
            assert torch.allclose(generic, own, rtol=1e-9, atol=1e-9)

    def test_is_the_vdm_in_expectation_in_the_closed_form(self, timesteps):
        """(1.32) on paths and (1.62) with closed KLs have the same mean: random network, one example, 4,000 draws."""
        model, x = network_vdm(timesteps), DIGITS[:1].double().expand(4000, 1, 8, 8)
        with torch.no_grad():
            paths, closed = model.as_mhvae().elbo(x, Draws(4)).total, model.elbo_all_times(x, Draws(5)).total
        error = ((paths.var() + closed.var()) / len(x)).sqrt()
        assert abs(paths.mean() - closed.mean()) < 4 * error

    def test_meets_the_exact_bound_of_gaussian_data(self, timesteps):
        data = GaussianData.isotropic(0.2, 0.3, (3,))
        model = VDM(LinearSchedule(-6.0, 5.0), data.denoiser, GaussianLikelihood(), DiscreteTime(timesteps))
        x = data.sample(20_000)
        total = model.as_mhvae().elbo(x, Draws(6)).total
        exact = data.elbo(torch.linspace(-6, 5, timesteps, dtype=torch.float64), x)
        assert abs((total - exact).mean()) < 4 * (total - exact).std() / len(x) ** 0.5
        assert total.mean() < data.log_prob(x).mean() + 4 * total.std() / len(x) ** 0.5


def test_free_reverse_kernel_contains_the_tied_one():
    """Rung 3 with the exact affine kernels of Gaussian data has the VDM's log-weights, path by path."""
    data, timesteps = GaussianData.isotropic(0.0, 0.3, (2,)), 5
    gammas = torch.linspace(-4, 5, timesteps, dtype=torch.float64)
    schedule, time = LinearSchedule(-4.0, 5.0), DiscreteTime(timesteps)
    vdm = VDM(schedule, data.denoiser, GaussianLikelihood(), time)
    shapes = [(2,)] * timesteps
    reverse = LearnedReverse(shapes, lambda a, b, heads: FusionMLP(a, b, heads, hidden=4, blocks=0)).double()
    with torch.no_grad():
        for kernel, gamma_s, gamma_t in zip(reverse.kernels, gammas[:-1], gammas[1:], strict=True):
            slope, _, variance = data._reverse(gamma_s, gamma_t)
            kernel.network.linear.weight[:2] = slope * torch.eye(2)
            # log σ = 7 tanh(raw/7) − 1
            kernel.network.linear.bias[2:] = 7 * torch.atanh((0.5 * variance.log() + 1) / 7)
    free = MHVAE(timesteps, DiffusionEncoder(schedule, time), reverse, StandardNormal(), vdm.as_mhvae().decoder)
    x = data.sample(40)
    assert torch.allclose(free.log_weight(x, Draws(0)), vdm.log_weight(x, Draws(0)), atol=1e-9)


def test_rungs_differ_by_parts_alone():
    """All rungs have the same T and likelihood; each restriction holds from its rung on."""
    built = {name: part("model", f"rung={name}", "experiment=lineage", "trainer.max_steps=1") for name in RUNGS}
    free, same, fixed, top, tied = (built[name] for name in RUNGS[:5])
    assert isinstance(tied, VDM)
    chains = [free, same, fixed, top, tied.as_mhvae()]
    assert {chain.layers for chain in chains} == {8}
    assert {type(chain.decoder.likelihood) for chain in chains} == {DiscretisedGaussianLikelihood}
    assert {type(chain.decoder.likelihood.variance) for chain in chains} == {LearnedVariance}
    x = DIGITS.float()
    shapes = [[z.shape[1:] for z in chain.latents(x.long(), Draws(0))] for chain in chains]
    assert all(any(shape != x.shape[1:] for shape in found) == (i == 0) for i, found in enumerate(shapes))
    assert [isinstance(chain.encoder, DiffusionEncoder) for chain in chains] == [False, False, True, True, True]
    ends = [chain.encoder.schedule(torch.ones(1)).item() for chain in chains[2:]]
    assert ends == [0.0, 5.0, 5.0]
    assert [isinstance(chain.reverse, LearnedReverse) for chain in chains] == [True] * 4 + [False]
    assert [isinstance(chain.decoder, LearnedDecoder) for chain in chains] == [True] * 4 + [False]


def test_relaxed_rungs_differ_from_the_vdm_in_one_part():
    """Learned mean, noise per pixel, noise given x: all else is the tied rung's."""
    tied, *relaxed = (part("model", f"rung={name}", "experiment=lineage", "trainer.max_steps=1") for name in RUNGS[4:])
    assert [type(model) for model in relaxed] == [RelaxedVDM, VDM, LatentVDM]
    for model in relaxed:
        assert model.time.timesteps == 8
        for name in ("likelihood", "times", "objective"):
            assert type(getattr(model, name)) is type(getattr(tied, name))
        assert type(model.denoiser.parameterisation) is type(tied.denoiser.parameterisation)
        assert (model.process is FORWARD) == (model is not relaxed[0])
        assert model.schedule.per_dimension == (model is not relaxed[0])


def test_lineage_experiment_sweeps_over_all_rungs():
    text = (Path(__file__).parents[2] / "configs/experiment/lineage.yaml").read_text()
    (swept,) = [line.split(":")[1].strip().split(",") for line in text.splitlines() if line.strip().startswith("rung:")]
    assert set(swept) == {"vae", "hvae", *RUNGS} == set(options("rung"))


QUICK = (
    "trainer.max_steps=10",
    "trainer.val_check_interval=5",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "validation.repeats=2",
    "test.repeats=2",
    "callbacks.sample_grid.every=1",
)
SMALL = ("latents.network.channels=8",)
SMALL_VDM = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "model.sampling.steps=3")


def call(command, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"vdm-{command.__name__.split('.')[-1]}", *map(str, arguments)])
        command.main()


@pytest.mark.slow
@pytest.mark.parametrize("choice", [f"{group}={name}" for group in ("model", "rung") for name in options(group)])
def test_every_model_trains_evaluates_and_samples(choice, tmp_path):
    """vdm-train, vdm-evaluate with the same result, and vdm-sample for each yaml of the two groups."""
    small = SMALL_VDM if choice == "model=vdm" or choice[:6] in ("rung=4", "rung=5", "rung=6", "rung=7") else SMALL
    run, again, drawn = (tmp_path / part for part in ("run", "again", "drawn"))
    call(train, choice, *QUICK, *small, f"hydra.run.dir={run}")
    checkpoint = f"ckpt={run}/checkpoints/best.ckpt"
    call(evaluate, checkpoint, "accelerator=cpu", f"hydra.run.dir={again}")
    call(sample, checkpoint, "accelerator=cpu", "n=4", f"hydra.run.dir={drawn}")
    first, second = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (run, again))
    assert first == second
    layers = [entry["value"] for key, entry in first.items() if key.startswith("layer_")]
    assert not layers or sum(layers) == pytest.approx(first["denoising_matching"]["value"])
    assert (run / "pictures/reconstructions.png").exists() == isinstance(part("model", choice, *small), LatentModel)
    assert Image.open(run / "pictures/samples.png").size[0] > 100
    assert (drawn / "samples.npz").exists()


@pytest.mark.slow
def test_toy_hvae_trains(tmp_path):
    call(train, "experiment=toy_hvae", *QUICK, f"hydra.run.dir={tmp_path}")
    assert json.loads((tmp_path / "metrics.json").read_text())["provenance"]["data"]["name"] == "toy"


@pytest.mark.slow
def test_lineage_reports_a_multirun(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    call(
        train,
        "-m",
        "rung=vae,2_fixed_encoder",
        *QUICK,
        "trainer.max_steps=100000",
        "callbacks.cpu_time.seconds=0.2",
        f"hydra.sweep.dir={sweep}",
    )
    capsys.readouterr()
    call(report, "lineage", f"runs={sweep}", f"hydra.run.dir={tmp_path}/report")
    printed = capsys.readouterr().out
    runs = read_runs(sweep)
    assert list(runs) == ["vae", "2_fixed_encoder"]
    printed = " ".join(printed.split())
    for name, run in runs.items():
        assert name in printed
        assert 0.2 <= run.metrics["provenance"]["training_cpu_seconds"] < 5
        assert run.test["bits_per_dim"].shown()[0] in printed
    assert len(layers_of(runs["2_fixed_encoder"])) == 7
    assert Image.open(tmp_path / "report/pictures/lineage.png").size[0] > 500


def test_read_runs_names_runs_by_differing_settings(tmp_path):
    def run(number, *overrides):
        (tmp_path / number / ".hydra").mkdir(parents=True)
        (tmp_path / number / ".hydra/overrides.yaml").write_text(json.dumps(["trainer.max_steps=5", *overrides]))
        test = {term: {"value": float(number), "mc_se": 0.1, "data_se": 0.1} for term in TERMS}
        facts = {"data": {}, "parameters": 9, "steps": 5}
        (tmp_path / number / "metrics.json").write_text(json.dumps({"test": test, "provenance": facts}))

    run("0", "model=vae", "seed=1")
    run("1", "model=vae", "seed=2")
    run("2", "model=vdm", "seed=1", "resume=true")
    assert list(read_runs(tmp_path)) == ["vae, seed=1", "vae, seed=2", "vdm, seed=1"]
    run("3", "model=vae", "seed=2")
    with pytest.raises(InvalidInput, match="several finished runs of vae, seed=2, with the same settings"):
        read_runs(tmp_path)


def test_lineage_escapes_foreign_text(tmp_path, capsys):
    """A model's name, a number and a folder with rich's markup and terminal escapes."""
    sweep = tmp_path / "[red]of[/x]"
    (sweep / "0/.hydra").mkdir(parents=True)
    (sweep / "0/.hydra/overrides.yaml").write_text(json.dumps(["model=[/x]\x1b[2J"]))
    test = {term: {"value": 1.0, "mc_se": 0.1, "data_se": 0.1} for term in TERMS}
    facts = {"data": {"flip": True}, "parameters": 9, "steps": "[/y]\x1b]0;z\x07", "training_cpu_seconds": 1.0}
    metrics = {"test": test, "provenance": facts, "warnings": ["not [/u]\x1b to be trusted"]}
    (sweep / "0/metrics.json").write_text(json.dumps(metrics))
    call(report, "lineage", f"runs='{sweep}'", f"hydra.run.dir={tmp_path}/report")
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[/x]�[2J, trained with flips", "[/y]�]0;z�", "[red]of[/x]"))
    assert "[/x]�[2J: not [/u]� to be trusted" in printed
    assert "\x1b" not in printed


def png(width, height, rows):
    """Return a grey PNG whose header says ``width`` × ``height``, with some of its rows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    squeeze = zlib.compressobj()
    data = b"".join(squeeze.compress(bytes(width + 1)) for _ in range(rows)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (png(80, 60, 60), (80, 60)),
        (png(4000, 2000, 2000), (1024, 512)),
        (png(10_001, 10_000, 0), None),
        (png(30_000, 30_000, 0), None),
        (png(800, 600, 600)[:-40], None),
        (png(80, 60, 60).replace(b"IDAT", b"IDAU"), None),
        (b"", None),
    ],
    ids=["whole", "large", "too many pixels", "more", "truncated", "no rows", "empty"],
)
def test_read_picture_skips_damaged_and_enormous_files(tmp_path, recwarn, content, size):
    (tmp_path / "samples.png").write_bytes(content)
    image = read_picture(tmp_path / "samples.png")
    assert (image and image.size) == size
    assert not recwarn


def test_read_runs_refuses_an_empty_folder(tmp_path):
    with pytest.raises(InvalidInput, match="holds no finished run"):
        read_runs(tmp_path)


@pytest.mark.parametrize("reach", [0.0, 2.0])
def test_traversal_returns_images_of_the_data_shape(reach):
    """At every layer, with and without a shift."""
    model = part("model", "model=hvae", "latents.network.channels=8")
    x = DIGITS[:1].repeat(3, 1, 1, 1)
    draws = Draws(0)
    for t in range(1, model.layers + 1):
        assert model.traverse(x, t, torch.full((3,), reach), draws).shape == x.shape


def test_rung_configs_compose_with_any_data():
    assert composed("rung=1_same_dimension", "experiment=mnist").model._target_ == "vdm.models.MHVAE"
