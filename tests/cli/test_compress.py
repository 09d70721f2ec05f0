"""vdm-compress and vdm-decompress."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import invoke
from support.exports import MODELS, exported
from vdm.cli import compress, decompress
from vdm.cli.decompress import as_overrides
from vdm.data import Digits

DIGITS = Digits([1, 8, 8]).load()["test"].x.numpy()

SMALL = ("timesteps=3", "examples=4", "repeats=2")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"), MODELS["vdm"][1])[0]


def compressed(checkpoint, folder, *overrides):
    assert invoke(compress, f"ckpt={checkpoint}", f"folder={folder}", *overrides) == 0
    return folder / "images.vdm"


def test_array_comes_back_as_the_array_it_was(checkpoint, tmp_path, capsys):
    file = compressed(checkpoint, tmp_path / "out", *SMALL)
    assert max(map(len, capsys.readouterr().out.splitlines()[:16])) <= 80
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 0
    back = np.load(tmp_path / "back/images.npy")
    assert back.dtype == np.uint8
    assert np.array_equal(back, DIGITS[:4])


def test_account_has_all_codelengths_and_adds_up(checkpoint, tmp_path):
    file = compressed(checkpoint, tmp_path / "out", *SMALL)
    account = json.loads((tmp_path / "out/compress.json").read_text())
    bits, parts = account["bits_per_dim"], account["bytes"]
    assert {"net", "path", "bound", "bound_continuous", "net_less_bound", "file", "png", "webp", "xz"} <= bits.keys()
    assert parts["file"] == file.stat().st_size
    assert sum(parts[f"of_{part}"] for part in ("net", "initial", "checksums", "header_and_names")) == parts["file"]
    assert bits["file"]["value"] == pytest.approx(8 * parts["file"] / (4 * 64))
    assert bits["net"]["value"] == pytest.approx(np.mean(account["per_image"]["net"]))
    assert account["images"] == 4


@pytest.mark.parametrize("dtype", ["u2", ">i4"])
def test_arrays_keep_their_type(checkpoint, tmp_path, dtype):
    np.save(tmp_path / "x.npy", DIGITS[:3].astype(dtype))
    file = compressed(checkpoint, tmp_path / "out", f"images={tmp_path}/x.npy", "timesteps=3", "repeats=null")
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 0
    back = np.load(tmp_path / "back/images.npy")
    assert back.dtype == np.dtype(dtype)
    assert np.array_equal(back, DIGITS[:3])


def test_folder_comes_back_as_the_files_it_was(checkpoint, tmp_path):
    (tmp_path / "in/b").mkdir(parents=True)
    for name, image in zip(("b/1.png", "a.bmp"), DIGITS, strict=False):
        Image.fromarray(image[0]).save(tmp_path / "in" / name)
    file = compressed(checkpoint, tmp_path / "out", f"images={tmp_path}/in", "timesteps=3", "repeats=null")
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 0
    for name, image in zip(("b/1.png", "a.png"), DIGITS, strict=False):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "back" / name)), image[0])


@pytest.mark.parametrize("name", ["hvae", "mhvae"])
def test_hierarchical_models_compress(tmp_path, name):
    checkpoint, _ = exported(tmp_path, MODELS[name][1])
    file = compressed(checkpoint, tmp_path / "out", "examples=4", "repeats=2")
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 0
    assert np.array_equal(np.load(tmp_path / "back/images.npy"), DIGITS[:4])


def test_changed_file_is_refused_in_one_line(checkpoint, tmp_path, capsys):
    file = compressed(checkpoint, tmp_path / "out", *SMALL)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    capsys.readouterr()
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "back").exists()


def test_image_with_another_checksum_is_named_not_written(checkpoint, tmp_path, capsys, monkeypatch):
    """As on a machine whose network gives other digits: here the reader sees another checksum."""
    file = compressed(checkpoint, tmp_path / "out", *SMALL)
    monkeypatch.setattr("vdm.codec.blocks.checksum", lambda row: 256)
    capsys.readouterr()
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 2
    assert "image 0 has another checksum" in capsys.readouterr().err
    assert list(tmp_path.glob("*back*")) == []


def test_other_machine_is_named(checkpoint, tmp_path, capsys, monkeypatch):
    file = compressed(checkpoint, tmp_path / "out", *SMALL)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
    assert invoke(decompress, file, f"folder={tmp_path / 'back'}") == 0
    assert "ABACUS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["timesteps=1"], "timesteps"),
        (["examples=0"], "examples"),
        (["batch_size=0"], "batch"),
        (["data.split=tset"], "tset"),
        (["images=missing.npy"], "missing.npy"),
        (["parts=3"], "parts"),
    ],
)
def test_wrong_settings_are_refused(checkpoint, tmp_path, capsys, overrides, named):
    assert invoke(compress, f"ckpt={checkpoint}", f"folder={tmp_path / 'out'}", *overrides) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unsafe_names_are_not_written(tmp_path):
    from vdm.codec import Decoded
    from vdm.codec.files import write_images
    from vdm.errors import InvalidInput

    for name in ("../x.png", "/x.png", "x.sh", "a\\..\\x.png"):
        with pytest.raises(InvalidInput, match="no PNG below"):
            write_images(tmp_path / "back", [Decoded(DIGITS[:1], [name])], 1)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a b.vdm", "folder=x"], ["file='a b.vdm'", "folder=x"]),
        (["it's.vdm"], ["file='it\\'s.vdm'"]),
        (["file=a.vdm"], ["file=a.vdm"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_file_may_stand_by_itself(given, expected):
    assert as_overrides(given) == expected


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_decodes_with_any_threads(checkpoint, tmp_path, threads):
    file = compressed(checkpoint, tmp_path / "out", "timesteps=10", "examples=20", "repeats=null")
    call = "import sys; sys.argv[0] = 'vdm-decompress'; from vdm.cli.decompress import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-c", call, str(file), f"folder={tmp_path / 'back'}"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    assert np.array_equal(np.load(tmp_path / "back/images.npy"), DIGITS[:20])
