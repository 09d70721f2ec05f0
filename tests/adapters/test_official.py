"""``vdm-import vdm``: the official VDM's files, through the command and ``vdm.load``."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

import vdm
from support.commands import invoke
from support.flax_vdm import as_flax, extension, flax_forward, flax_parameters, official_monotone
from support.given_draws import GivenDraws
from support.hostile import Touching
from vdm.cli import evaluate, import_model, sample
from vdm.elbo import DiscreteTime

REFERENCE = Path(__file__).parents[1] / "networks/reference"
PARAMETERS = REFERENCE / "official_vdm_rgb8_small_params.npz"
VECTORS = dict(np.load(REFERENCE / "official_vdm_rgb8_small_vectors.npz"))
TOLERANCES = {True: 1e-12, False: 1e-6}


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    """Where a file that runs something would leave a trace."""
    monkeypatch.chdir(tmp_path)


def vector(name):
    array = torch.from_numpy(VECTORS[name])
    return array.movedim(-1, 1) if array.ndim == 4 else array


def imported(path, folder, *settings):
    assert invoke(import_model, "vdm", path, f"folder={folder}", *settings) == 0
    return vdm.load(folder).double()


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.filterwarnings("ignore:32 channels")
def test_import_repeats_the_official_numbers(rounded, tmp_path):
    model = imported(PARAMETERS, tmp_path / "model", "event_shape=[3,8,8]", f"float32_time={rounded}")
    atol = TOLERANCES[rounded]
    assert torch.allclose(model.denoiser(vector("z_t"), vector("gamma")).eps, vector("eps_hat"), rtol=0, atol=atol)
    assert torch.allclose(model.schedule(vector("t")), vector("gamma"), rtol=1e-12)
    draws = GivenDraws({"t": vector("t"), "x_t": vector("eps"), "x_1": vector("eps0")})
    for steps in (0, 1000):
        bound = (model if steps == 0 else model.at(DiscreteTime(steps + 1))).elbo(vector("img_nhwc"), draws)
        assert torch.allclose(-bound.reconstruction, vector(f"loss_recon_T{steps}"), rtol=1e-10)
        assert torch.allclose(bound.prior_matching, vector(f"loss_klz_T{steps}"), rtol=1e-10)
        assert torch.allclose(bound.denoising_matching, vector(f"loss_diff_T{steps}"), rtol=1e-10)


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize(("channels", "everywhere", "fourier", "line"), [(64, False, True, 18.3), (96, True, False, 0.05)])
def test_import_reads_flax_checkpoints(rounded, channels, everywhere, fourier, line, tmp_path):
    """Sizes, attention, Fourier features and the monotone schedule follow from the file; the config's ends scale γ."""
    gammas, gamma = official_monotone(features=32, line=line)
    arrays = flax_parameters(3, channels, 2, everywhere, fourier) | gammas
    scaled = {name: array * (0.3 if "score_model" in name else 1) for name, array in arrays.items()}
    arrays = {name: array.astype(np.float32) for name, array in scaled.items()}
    (tmp_path / "ckpt-1.flax").write_bytes(as_flax(arrays))
    settings = ("event_shape=[3,4,6]", "gamma_min=-9", "gamma_max=6.0", f"float32_time={rounded}")
    model = imported(tmp_path / "ckpt-1.flax", tmp_path / "model", *settings)
    z = torch.randn(3, 4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gamma_t = torch.tensor([-8.123, 0.777, 5.01], dtype=torch.float64)
    exact = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected = flax_forward(exact, z, (gamma_t + 9) / 15, rounded=True).movedim(-1, 1)
    scale = expected.abs().max().item()
    eps = model.denoiser(z.movedim(-1, 1), gamma_t).eps
    assert torch.allclose(eps, expected, rtol=0, atol=TOLERANCES[rounded] * max(1, scale))
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(model.schedule(t), torch.from_numpy(gamma(t.numpy())), rtol=0, atol=1e-12)
    about = json.loads((tmp_path / "model/vdm.json").read_text())
    assert (about["weights"], about["provenance"]["step"], about["provenance"]["imported"]) == ("ema", 7, "ckpt-1.flax")


def test_import_takes_raw_parameters_when_asked(tmp_path):
    arrays = flax_parameters(1, 64, 1, False, False) | {"params/gamma/w": np.ones(1), "params/gamma/b": np.zeros(1)}
    (tmp_path / "c").write_bytes(as_flax(arrays))
    averaged = imported(tmp_path / "c", tmp_path / "a", "event_shape=[1,4,4]")
    raw = imported(tmp_path / "c", tmp_path / "b", "event_shape=[1,4,4]", "ema=false")
    assert (averaged.schedule.gamma_max, raw.schedule.gamma_max) == (1.0, 3.0)
    assert json.loads((tmp_path / "b/vdm.json").read_text())["weights"] == "raw"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random official model of the digits' shape, imported."""
    folder = tmp_path_factory.mktemp("small")
    arrays = flax_parameters(1, 64, 1, False, False)
    np.savez(folder / "small.npz", **{name: array / 30 for name, array in arrays.items()})
    settings = ("event_shape=[1,8,8]", "levels=17", "gamma_min=-8.0")
    assert invoke(import_model, "vdm", folder / "small.npz", f"folder={folder}/model", *settings) == 0
    return folder / "model"


@pytest.mark.slow
def test_evaluate_takes_an_imported_folder(small, tmp_path, capsys):
    arguments = (f"ckpt={small}", f"hydra.run.dir={tmp_path}/e", "data=digits", "repeats=2")
    assert invoke(evaluate, *arguments, "data.eval_batch_size=100") == 0
    written = json.loads((tmp_path / "e/metrics.json").read_text())
    assert written["test"]["bits_per_dim"]["mc_se"] > 0
    assert invoke(evaluate, f"ckpt={small}", f"hydra.run.dir={tmp_path}/f") == 2
    assert "add data=" in capsys.readouterr().err


def test_sample_takes_an_imported_folder(small, tmp_path):
    assert invoke(sample, f"ckpt={small}", "n=2", "steps=2", f"hydra.run.dir={tmp_path}/s") == 0
    assert np.load(tmp_path / "s/samples.npz")["x"].shape == (2, 1, 8, 8)


def test_evaluate_refuses_other_data(small, tmp_path, capsys):
    assert invoke(evaluate, f"ckpt={small}", f"hydra.run.dir={tmp_path}/e", "data=mnist") == 2
    assert "levels=256" in capsys.readouterr().err


def refused(path, tmp_path, capsys, *settings):
    before = set(tmp_path.iterdir())
    assert invoke(import_model, "vdm", path, f"folder={tmp_path}/out", "event_shape=[1,4,4]", *settings) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert set(tmp_path.iterdir()) == before  # nothing ran, nothing was written
    return error


def packed(**state):
    return msgpack.packb(state, default=lambda value: value if isinstance(value, msgpack.ExtType) else extension(value))


def broken(shape, dtype, content, code=1):
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, content)))


GOOD = as_flax(flax_parameters(1, 64, 1, False, False))
NESTED = b"\x81\xa1a" * 100_000 + b"\xc0"
FLAX = {
    "empty": b"",
    "cut short": GOOD[:-9],
    "more behind it": GOOD + b"\x00",
    "a list": msgpack.packb([1, 2]),
    "text": b"# not msgpack at all",
    "a pickle": pickle.dumps(Touching("exploited")),
    "deep nesting": NESTED,
    "a count without content": b"\xdf\xff\xff\xff\xff",
    "an array larger than its bytes": packed(ema_params=broken((2**40,), "float32", b"1234")),
    "a negative shape": packed(ema_params=broken((-1, -4), "float32", b"1234")),
    "objects": packed(ema_params=broken((1,), "object", b"12345678")),
    "a dtype that is code": packed(ema_params=broken((1,), "O8,__import__", b"12345678")),
    "an unknown extension": packed(ema_params=broken((1,), "float32", b"1234", code=42)),
    "an extension inside": packed(ema_params=msgpack.ExtType(1, msgpack.packb(msgpack.ExtType(1, b"")))),
    "numbers as names": msgpack.packb({1: 2}),
    "chunks": packed(ema_params={"__msgpack_chunked_array__": True}),
    "no network": packed(step=1, ema_params={"gamma": {"w": np.zeros(1)}}),
    "a wrong shape": packed(ema_params={"score_model": {"conv_in": {"kernel": np.zeros((3, 3))}}}),
}


@pytest.mark.parametrize("name", FLAX)
def test_import_refuses_bad_flax_files(name, tmp_path, capsys):
    (tmp_path / "c.flax").write_bytes(FLAX[name])
    refused(tmp_path / "c.flax", tmp_path, capsys)


def npy(header, content=b""):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def objects():
    stream = io.BytesIO()
    np.save(stream, np.array([Touching("exploited")], dtype=object), allow_pickle=True)
    return stream.getvalue()


def without(name):
    arrays = flax_parameters(1, 64, 1, False, False)
    stream = io.BytesIO()
    np.savez(stream, **{key: array for key, array in arrays.items() if name not in key})
    return stream.getvalue()


NPZ = {
    "cut short": archive(a=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"1234"))[:-30],
    "damaged": archive(a=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"1234")).replace(
        b"NUMPY", b"NUMPX"
    ),
    "objects": archive(a=objects()),
    "a header larger than its content": archive(a=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,), }")),
    "a header that is code": archive(a=npy("__import__('os').system('touch exploited')")),
    "a header that is deep": archive(a=npy("(" * 110)),
    "records": archive(a=npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"1234")),
    "foreign bytes": archive(a=npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", b"1234")),
    "text": archive(a=npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"1234")),
    "a bomb": archive(a=bytes(2**27)),
    "no array": archive(a=b"hello"),
    "no network": archive(gamma=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"1234")),
    "a missing weight": without("conv2/bias"),
    "a missing kernel": without("conv_in"),
}


@pytest.mark.parametrize("name", NPZ)
def test_import_refuses_bad_npz_files(name, tmp_path, capsys):
    (tmp_path / "c.npz").write_bytes(NPZ[name])
    refused(tmp_path / "c.npz", tmp_path, capsys)


def test_import_refuses_weights_that_are_not_finite(tmp_path, capsys):
    arrays = flax_parameters(1, 64, 1, False, False)
    arrays["params/score_model/dense0/bias"][3] = np.nan
    np.savez(tmp_path / "c.npz", **arrays)
    assert "not finite" in refused(tmp_path / "c.npz", tmp_path, capsys)


@pytest.mark.parametrize(
    ("settings", "word"),
    [(("levels=x",), "levels"), (("colour=red",), "colour"), (("levels=[1",), "levels"), (("gamma_min=9.0",), "gamma")],
)
def test_import_names_the_wrong_setting(settings, word, tmp_path, capsys):
    np.savez(tmp_path / "c.npz", **flax_parameters(1, 64, 1, False, False))
    assert word in refused(tmp_path / "c.npz", tmp_path, capsys, *settings)
