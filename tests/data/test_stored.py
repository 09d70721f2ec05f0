"""Examples in a file stand for a tensor, and are never held or mapped as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm.data import Split
from vdm.data.stored import BoundedFile, RowWriter, StoredRows, pieces, taken, whole
from vdm.errors import InvalidInput

X = np.random.RandomState(0).randint(0, 65536, (23, 2, 3, 5)).astype(np.uint16)
AS_INT = torch.from_numpy(X.astype(np.int32))


def stored(tmp_path, x=X, **more):
    path = tmp_path / "x.bin"
    path.write_bytes(b"12345678" + x.tobytes())
    return StoredRows(path.open("rb"), x.shape, x.dtype, 8, **more)


TESTS = Path(__file__).parents[1]
INDICES = [0, -1, slice(None), slice(3, 9), slice(None, None, 7), slice(5, 5), torch.tensor([4, 4, 0, -2]), torch.tensor([])]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_rows_are_those_of_the_tensor(tmp_path, index):
    index = index.long() if isinstance(index, torch.Tensor) else index
    assert torch.equal(stored(tmp_path)[index], AS_INT[index])


def test_masks_chosen_rows_and_axes_are_followed(tmp_path):
    chosen, x = np.array([5, 2, 3, 22]), stored(tmp_path)
    mask = torch.arange(23) % 3 == 0
    assert torch.equal(x[mask], AS_INT[mask])
    assert torch.equal(taken(x, chosen)[:], AS_INT[torch.from_numpy(chosen)])
    assert torch.equal(taken(taken(x, chosen), np.array([2, 0]))[:], AS_INT[[3, 5]])
    turned = stored(tmp_path, axes=(2, 0, 1))
    assert turned.shape == (23, 5, 2, 3)
    assert torch.equal(turned[3:6], AS_INT[3:6].permute(0, 3, 1, 2))
    for wrong in (23, torch.tensor([0, -24])):
        with pytest.raises(IndexError):
            x[wrong]


def test_functions_of_torch_see_all_of_it(tmp_path):
    x = stored(tmp_path)
    assert torch.equal(torch.cat([x, x]), torch.cat([AS_INT, AS_INT]))
    assert x.to("meta").shape == x.shape
    assert x.to(torch.device("cpu")) is x
    assert [len(piece) for piece in pieces(x)] == [23]
    assert torch.equal(torch.stack(list(x)), AS_INT)


def test_fingerprint_is_that_of_the_same_tensor(tmp_path):
    assert Split(stored(tmp_path)).fingerprint() == Split(AS_INT).fingerprint()


def test_big_endian_numbers_and_reals_are_converted(tmp_path):
    assert torch.equal(stored(tmp_path, X.astype(">u2"))[:], AS_INT)
    x = stored(tmp_path, X.astype(np.float64))
    assert (x.dtype, x[:].dtype) == (torch.float32, torch.float32)
    with pytest.raises(InvalidInput, match="numbers of type complex128 are neither levels nor reals"):
        stored(tmp_path, X.astype(complex))


def test_a_file_cut_short_while_open_is_one_line(tmp_path):
    x = stored(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"12345678")
    with pytest.raises(InvalidInput, match=r"x.bin was cut short while it was read"):
        x[:]


def test_examples_written_one_by_one_come_back(tmp_path, monkeypatch):
    for most in (2**28, 0):
        monkeypatch.setattr("vdm.data.stored.IN_MEMORY", most)
        rows = RowWriter(X.shape, X.dtype, tmp_path / "cache")
        for x in X:
            rows.append(x, "x")
        found = rows.finished()
        assert isinstance(found, StoredRows) == (most == 0)
        assert np.array_equal(np.asarray(found[:]), X)
    with pytest.raises(InvalidInput, match="give all examples one type and shape"):
        rows.append(X[0].astype(np.uint8), "y")


def test_no_reader_asks_for_more_than_a_header(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)
    with BoundedFile(path) as file, pytest.raises(InvalidInput, match="asks for 51200 MiB at once where a header should"):
        file.read()
    with pytest.raises(InvalidInput, match=r"sparse has 53,687,091,200 bytes, more than the 1,000"):
        whole(path, 1000)


PROGRAM = """
import resource, sys
import numpy as np, torch
from pathlib import Path
from vdm.data import from_arrays
from support.catalogue import part

model = part("model", "data.event_shape=[3,64,64]", "data=array", "parameterisation=noise", "network=unet",
             "model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "model.denoiser.network.attention=[]",
             "model.denoiser.network.multipliers=[1]")
data = from_arrays(sys.argv[1], val=10, test=10, event_shape=(3, 64, 64), batch_size=4)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30,) * 2)
for split in data.splits().values():
    model.check(split.x)
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
from vdm.draws import Draws
for step, batch in zip(range(2), data.train_dataloader()):
    model.loss(batch, Draws(0, step)).value.mean().backward()
    optimizer.step()
batch = next(iter(data.test_dataloader()))
print(len(data.splits()["train"].x), tuple(batch.x.shape), bool(torch.isfinite(model.elbo(batch.x).total).all()))
"""


@pytest.mark.slow
def test_thirty_gigabytes_open_in_four_of_addresses(tmp_path):
    """Rows are read, not mapped: two steps of training and ten examples evaluated."""
    n = 30 * 2**30 // (3 * 64 * 64)
    header = np.lib.format.header_data_from_array_1_0(np.empty((0, 3, 64, 64), np.uint8)) | {"shape": (n, 3, 64, 64)}
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + n * 3 * 64 * 64)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False, env=environment
    )
    assert found.stdout.split(" ", 1) == [str(n - 20), "(10, 3, 64, 64) True\n"], found.stderr[-2000:]
