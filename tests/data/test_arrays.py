"""Arrays as a data set: read as they are, split by name or by a seed, and refused in one line where they do not fit."""

import io
import os
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch

from support.catalogue import composed, part
from vdm.data import ArraySource, DataModule, from_arrays
from vdm.data.npy import INFLATED, open_array
from vdm.data.shares import Splitting
from vdm.data.stored import StoredRows
from vdm.errors import InvalidInput
from vdm.training.build import build

RANDOM = np.random.RandomState(0)
X = RANDOM.randint(0, 256, (40, 8, 8, 3)).astype(np.uint8)
Y = np.arange(40)
AS_TENSOR = torch.from_numpy(X).permute(0, 3, 1, 2)


def module(path, shape=(3, 8, 8), splitting=None, **more):
    return DataModule(ArraySource(shape, path, splitting or Splitting(0.1, 0.2), **more), 4, 4)


def written(folder, kind):
    path = folder / f"x.{'npy' if kind == 'npy' else 'npz'}"
    {"npy": lambda: np.save(path, X), "npz": lambda: np.savez(path, x=X, y=Y)}.get(
        kind, lambda: np.savez_compressed(path, x=X, y=Y)
    )()
    return str(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_every_example_is_in_one_split(tmp_path, kind):
    splits = module(written(tmp_path, kind), labels=kind != "npy").splits()
    assert {name: len(split.x) for name, split in splits.items()} == {"train": 28, "val": 4, "test": 8}
    assert all(isinstance(split.x, StoredRows) == (kind != "compressed") for split in splits.values())
    if kind != "npy":
        assert all(torch.equal(split.x[:], AS_TENSOR[split.condition]) for split in splits.values())
        assert sorted(torch.cat([split.condition for split in splits.values()]).tolist()) == Y.tolist()


def test_file_and_memory_are_one_data_set(tmp_path):
    path = written(tmp_path, "npy")
    forms = [path, X, torch.from_numpy(X), np.load(path, mmap_mode="r"), np.asfortranarray(X), AS_TENSOR.numpy()]
    assert len({str(from_arrays(form).provenance()["splits"]) for form in forms}) == 1


def test_ready_made_splits_stay_what_they_are(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=X[:30], y_train=Y[:30], x_test=X[30:], y_test=Y[30:])
    splits = module(str(tmp_path / "x.npz"), labels=True).splits()
    assert torch.equal(splits["test"].x[:], AS_TENSOR[30:])
    assert sorted(torch.cat([splits[name].condition for name in ("train", "val")]).tolist()) == Y[:30].tolist()
    for name, rows in (("train", X[:30]), ("valid", X[30:35]), ("test", X[35:])):
        np.save(tmp_path / f"{name}.npy", rows)
    splits = module(str(tmp_path)).splits()
    assert torch.equal(torch.cat([splits[name].x[:] for name in ("train", "val", "test")]), AS_TENSOR)


def test_a_folder_of_single_examples_is_read(tmp_path):
    for i, x in enumerate(X):
        folder = tmp_path / ("train" if i < 30 else "test") / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i}.npy", x)
    splits = module(str(tmp_path), splitting=Splitting(5, 5), labels=True).splits()
    assert {name: len(split.x) for name, split in splits.items()} == {"train": 25, "val": 5, "test": 10}
    test = {x.numpy().tobytes(): int(k) for x, k in zip(splits["test"].x, splits["test"].condition, strict=True)}
    assert test == {AS_TENSOR[i].numpy().tobytes(): 1 - i % 2 for i in range(30, 40)}


@pytest.mark.parametrize(
    ("x", "levels", "shape"),
    [
        (RANDOM.randint(0, 2, (30, 8, 8)).astype(bool), 2, (1, 8, 8)),
        (RANDOM.randint(0, 65536, (30, 4, 4)).astype(np.uint16), 65536, (1, 4, 4)),
        (RANDOM.standard_normal((30, 5)), 0, (5,)),
    ],
    ids=["bits", "16 bits", "reals"],
)
def test_levels_and_shape_are_told_by_the_array(x, levels, shape):
    data = from_arrays(x, val=3, test=3)
    assert (data.source.levels, data.event_shape) == (levels, shape)
    assert [len(split.x) for split in data.splits().values()] == [24, 3, 3]
    found = torch.cat([split.x for split in data.splits().values()]).double().sum().item()
    assert found == pytest.approx(x.astype(np.float32).astype(np.float64).sum(), rel=1e-9)
    assert data.picture(data.splits()["test"].x).size[0] > 0


@pytest.mark.parametrize(("levels", "dtype"), [(65536, np.uint16), (2, bool)])
def test_deep_and_two_level_arrays_are_trained_on(tmp_path, levels, dtype):
    np.save(tmp_path / "x.npy", RANDOM.randint(0, levels, (40, 8, 8)).astype(dtype))
    small = ["model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=4"]
    data, task = build(
        composed("data=array", f"data.path={tmp_path}/x.npy", "data.event_shape=[1,8,8]", f"levels={levels}", *small)
    )
    assert torch.isfinite(task.model.elbo(next(iter(data.train_dataloader())).x).total).all()


def test_arrays_are_no_tensors():
    model = part("model")
    with pytest.raises(TypeError, match=r"x must be a torch.Tensor \(B, \*event\), got ndarray: pass torch.from_numpy"):
        model.elbo(np.zeros((2, 1, 8, 8), np.uint8))
    assert torch.isfinite(model.elbo(torch.ones(2, 1, 8, 8, dtype=torch.uint16)).total).all()


def header(shape, descr="|u1", version=1):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()[:6] + bytes([version]) + buffer.getvalue()[7:]


HOSTILE = {
    "huge.npy": header((10**13, 8, 8, 3)),
    "short.npy": header((40, 8, 8, 3)) + b"abc",
    "objects.npy": header((40,), "|O") + bytes(320),
    "scalar.npy": header((), "|u1") + b"a",
    "words.npy": header((2,), "<U4") + bytes(32),
    "header.npy": b"\x93NUMPY\2\0\xff\xff\xff\xff",
    "text.npy": b"<html>",
    "text.npz": b"<html>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_array_is_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    if name == "header.npy":
        os.truncate(path, 50 * 2**30)
    with pytest.raises(InvalidInput, match=name) as error:
        module(str(path)).splits()
    assert "\n" not in str(error.value)


def test_what_would_inflate_is_refused_before(tmp_path):
    claims = {"bomb": (INFLATED + 1,), "ratio": (10**9,)}
    for name, shape in claims.items():
        path = tmp_path / f"{name}.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", header(shape) + bytes(10**6))
        content = path.read_bytes()
        size = len(header(shape)) + 10**6
        told = len(header(shape)) + shape[0]
        if told < 2**32:
            path.write_bytes(content.replace(size.to_bytes(4, "little"), told.to_bytes(4, "little")))
        with pytest.raises(InvalidInput, match=rf"{name}.npz cannot be read .*which cannot be in"):
            open_array(path, "x")
    path = tmp_path / "directory.npz"
    path.write_bytes(b"PK\5\6" + bytes(8) + (2**30).to_bytes(4, "little") + bytes(6))
    with path.open("r+b") as file:
        end = file.read()
        file.truncate(2 * 2**30)
        file.seek(2 * 2**30 - len(end))
        file.write(end)
    with pytest.raises(InvalidInput, match=r"directory.npz asks for 1024 MiB at once|directory.npz cannot be read"):
        module(str(path)).splits()


@pytest.mark.parametrize(
    ("arrays", "shape", "message"),
    [
        ({"x": X}, (3, 9, 8), "set 'data.event_shape=[3, 8, 8]'"),
        ({"a": X, "b": X}, (3, 8, 8), "arrays has a, b, none of which is called after train: set data.names="),
        ({"train": X, "x_train": X}, (3, 8, 8), "arrays has 'train' and 'x_train' for train"),
        ({"x": X, "y": Y[:9]}, (3, 8, 8), "y has 9 labels for 40 examples"),
        ({"x": X, "val_labels": Y}, (3, 8, 8), "there are no labels for train"),
        ({"x": X[:5]}, (3, 8, 8), "5 examples cannot be split (data.val=0.1 gives 0, data.test=0.2 gives 1)"),
        ({"x": X.astype(complex)}, (3, 8, 8), "numbers of type complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(arrays, shape, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        module(arrays, shape, labels=not arrays.keys().isdisjoint(("y", "val_labels"))).splits()


def test_names_of_one_s_own_are_taken(tmp_path):
    np.savez(tmp_path / "x.npz", fit=X[:30], kept=X[30:], mean=X.mean())
    own = ["data=array", f"data.path={tmp_path}/x.npz", "data.event_shape=[3,8,8]", "data.names={train: fit, test: kept}"]
    splits = part("data", *own).splits()
    assert torch.equal(splits["test"].x[:], AS_TENSOR[30:])
    with pytest.raises(InvalidInput, match="has no 'fitt'; did you mean 'fit'"):
        part("data", *own[:3], "data.names={train: fitt}").splits()


def test_arrays_that_cannot_be_written_raise_no_warning():
    x = X.copy()
    x.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_arrays(x).splits()


@pytest.mark.parametrize("shape", ["[3,0,8]", "[]", "[-1]"])
def test_a_shape_without_numbers_is_one_line(shape):
    with pytest.raises(InvalidInput, match=r"data.event_shape must be lengths of at least 1"):
        part("data", f"data.event_shape={shape}")


def test_a_device_that_is_not_here_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    data = part("data", "data.device=cuda")
    with pytest.raises(InvalidInput, match=r"data.device=cuda, and this machine has 0 of cuda"):
        data.splits()


def test_sampling_reads_no_data_without_labels(tmp_path):
    assert module(str(tmp_path / "gone.npy")).sampling_condition(4) is None
    with pytest.raises(InvalidInput, match="there is no file"):
        module(str(tmp_path / "gone.npy"), labels=True).sampling_condition(4)
