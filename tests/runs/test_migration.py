"""Checkpoints, run folders and exported models of commit f54d3ea (tests/fixtures/README.md)."""

import json
import re
import tarfile
from pathlib import Path

import pytest
import torch

import vdm
from support.catalogue import composed
from support.commands import invoke
from vdm.cli import evaluate, report, train
from vdm.config.composed import to_plain
from vdm.data import Digits
from vdm.draws import ExampleDraws
from vdm.runs.migration import migrate_config
from vdm.runs.tables import read_rows

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "f54d3ea.tar.xz"
COMMON = (
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.accelerator=cpu",
    "validation.repeats=2",
    "test.repeats=2",
    "data.batch_size=8",
    "callbacks.last.every=2",
    "callbacks.sample_grid.n=4",
    "callbacks.bound_terms.every=2",
)
UNET = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "model.sampling.steps=3")
LATENTS = ("latents.network.channels=8", "latents.shapes=[[2,4,4],[2,2,2]]")
RUNS = {
    "vdm": (*UNET, "model.denoiser.network.attention=[]", "model.denoiser.network.multipliers=[1]"),
    "adaptive": (*UNET, "schedule=adaptive", "times=loss_moment", "network=vdm_unet", "parameterisation=noise"),
    "mhvae": (*LATENTS, "model=mhvae", "kl_warmup=linear"),
    "hvae": (*LATENTS, "model=hvae_top_down"),
}
EXPORTED = {
    "vdm": (3.4346162834560263, 0.0013121564224434223, 0.0030537525162799284, 3.430250374561976),
    "hvae": (11.170376360416412, 10.836012244224548, 0.11806305265054107, 0.2163011645898223),
}
"""Means of ``elbo(x, ExampleDraws(range(16), 7)).terms()`` over the first 16 test digits, by f54d3ea."""
DATA = json.loads((ARCHIVE.parent / "f54d3ea_data.json").read_text())
"""The data nodes of f54d3ea's resolved configs, by data set."""
REL = 1e-5
"""float32 sums may be ordered differently on another CPU; on the machine of the fixtures the numbers are equal."""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The files of f54d3ea, unpacked."""
    folder = tmp_path_factory.mktemp("f54d3ea")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def result(folder, stage="test"):
    terms = json.loads((folder / "metrics.json").read_text())[stage]
    return {name: entry["value"] for name, entry in terms.items()}


def rows_of(folder):
    return read_rows(folder / "metrics.csv")[1]


@pytest.mark.parametrize("kind", RUNS)
def test_old_run_resumes_to_its_own_result(kind, old, tmp_path):
    """The second half of a run, trained by this version, ends where f54d3ea's whole run ended.

    mc_se is not compared: it is now pooled over examples where their draws are independent.
    """
    folder, whole = old / kind / "stopped", old / kind / "finished"
    overrides = [name.replace("trainer.accelerator=cpu", "trainer.accelerator=auto") for name in COMMON]
    assert invoke(train, *overrides, *RUNS[kind], f"hydra.run.dir={folder}", "resume=true") == 0
    for stage in ("val", "test"):
        assert result(folder, stage) == pytest.approx(result(whole, stage), rel=REL)
    rows, expected = (
        [{k: v for k, v in row.items() if "throughput" not in k and "mc_se" not in k and v} for row in rows_of(each)]
        for each in (folder, whole)
    )
    assert [sorted(row) for row in rows] == [sorted(row) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=REL)


def test_old_checkpoint_evaluates_to_its_own_result(old, tmp_path):
    whole = old / "vdm" / "finished"
    ckpt = f"ckpt={whole}/checkpoints/best.ckpt"
    assert invoke(evaluate, ckpt, "accelerator=cpu", f"hydra.run.dir={tmp_path}/out") == 0
    assert result(tmp_path / "out") == pytest.approx(result(whole), rel=REL)


@pytest.mark.parametrize("kind", EXPORTED)
def test_old_export_has_the_same_bound(kind, old):
    model = vdm.load(old / kind / "exported")
    x = Digits((1, 8, 8)).load()["test"].x[:16]
    terms = model.elbo(x, ExampleDraws(torch.arange(16), 7)).terms()
    means = [value.double().mean().item() for value in terms.values()][:4]
    assert means == pytest.approx(EXPORTED[kind], rel=REL)


@pytest.mark.parametrize("name", DATA)
def test_old_data_set_is_today_s(name):
    today = composed("experiment=digits_labels" if name == "digits_labels" else f"data={name}").data
    pooled = {"split_folders": "none"} if name == "folder" else {}  # folders of ready-made splits were not known
    assert migrate_config(DATA[name]) == to_plain(today) | pooled
    assert migrate_config(to_plain(today)) == to_plain(today)


def test_old_run_without_gamma_ends_gets_those_of_its_data():
    config = to_plain(composed("experiment=toy_hvae"))
    old = {name: value for name, value in config.items() if name not in ("gamma_min", "gamma_max")}
    assert migrate_config(old | {"data": DATA["toy"]})["gamma_min"] == config["gamma_min"] == -10
    assert migrate_config(config) == config


@pytest.mark.parametrize("kind", RUNS)
def test_old_run_folder_reports(kind, old, tmp_path):
    assert invoke(report, f"run={old / kind / 'finished'}", f"output_dir={tmp_path}") == 0
    page = (tmp_path / "report.html").read_text()
    shown = f"{result(old / kind / 'finished')['bits_per_dim']:.2f}"
    assert re.search(re.escape(shown), page)
