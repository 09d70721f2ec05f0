"""CIFAR-10's pickles: what is read of them, and that nothing in them runs."""

import os
import pickle
import pickletools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from support.catalogue import part
from support.image_files import small_cifar10
from vdm.data.pickled import read_pickled
from vdm.errors import InvalidInput


def test_reads_what_was_written(tmp_path):
    overrides, (x, label) = small_cifar10(tmp_path)
    splits = part("data", "data=cifar10", *overrides, "data.labels=true").splits()
    assert [len(splits[name].x) for name in ("train", "val", "test")] == [80, 20, 12]
    assert torch.equal(torch.cat([splits[name].x for name in ("train", "val", "test")]), x)
    assert torch.equal(torch.cat([splits[name].condition for name in ("train", "val", "test")]), label)
    inner = [f"data.root={tmp_path}/cifar-10-batches-py", *overrides[1:]]
    assert torch.equal(part("data", "data=cifar10", *inner).splits()["train"].x, x[:80])


def test_no_module_of_a_download_is_needed(tmp_path):
    """The test's own import of NumPy and torch aside, reading the files loads nothing."""
    overrides, _ = small_cifar10(tmp_path)
    data, before = part("data", "data=cifar10", *overrides), set(sys.modules)
    data.splits()
    assert set(sys.modules) == before


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("key", ["data", b"data"])
def test_what_the_numpy_of_today_writes_is_read(protocol, order, key):
    array = np.arange(254, dtype=np.uint8).reshape(2, 127)
    found = read_pickled(pickle.dumps({key: np.asarray(array, order=order), b"labels": [1, 2]}, protocol), "file")
    assert found.keys() == {b"data", b"labels"}
    assert np.array_equal(found[b"data"], array)
    assert found[b"labels"] == [1, 2]


def test_python_2_wrote_strings():
    """The opcodes of protocol 2 as Python 2 wrote them: short byte strings, and the names of NumPy's parts before 2."""
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    parts = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    written = b"\x80\x02}(U\x04data" + parts + b"(K\x01(K\x03K\x04t" + dtype + b"\x89U\x0c" + array.tobytes() + b"tbu."
    assert np.array_equal(read_pickled(written, "a")[b"data"], array)


class Exploit:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, os.mkdir, np.load, getattr, __import__], ids=lambda f: f.__name__)
def test_what_a_pickle_calls_is_not_called(tmp_path, function, protocol):
    """Each of them would leave a folder behind, or raise; the line names the function instead."""
    argument = {os.system: f"mkdir {tmp_path}/x", eval: f"__import__('os').mkdir('{tmp_path}/x')"}
    attack = Exploit(function, argument.get(function, f"{tmp_path}/x"))
    content = pickle.dumps([attack], protocol=protocol)
    assert any(op.name in ("GLOBAL", "STACK_GLOBAL") for op, _, _ in pickletools.genops(content))
    with pytest.raises(InvalidInput, match=rf"file cannot be read .* asks for \S+\.{function.__name__}, which"):
        read_pickled(content, "file")
    assert not (tmp_path / "x").exists()


def test_what_numpy_would_run_is_not_run(tmp_path):
    """The admitted names make inert records: an array of objects or a foreign subclass is refused, not built."""
    for content in ({b"data": np.array([Exploit(os.mkdir, f"{tmp_path}/x")], dtype=object)}, {b"data": np.arange(3.0)}):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_pickled(pickle.dumps(content), "file")
    with pytest.raises(InvalidInput, match=r"asks for numpy\._globals"):
        read_pickled(b"\x80\x02}U\x01acnumpy._globals\n_NoValue\ns.", "file")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("call", ["V\xe9\nVidna\n", "Va\nVrot13\n", "cnumpy\ndtype\n)RVlatin1\n", "I1\nVlatin1\n", "Va\n"])
def test_bytes_are_made_of_latin_1_text_and_of_nothing_else(call):
    """Python 3 writes them as a call of _codecs.encode, which would import what another encoding names."""
    before = set(sys.modules)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pickled(f"c_codecs\nencode\n({call}tR.".encode("latin1"), "file")
    assert set(sys.modules) == before


@pytest.mark.parametrize("named", ["_codecs\nencode", "numpy\ndtype", "numpy._core.numeric\n_frombuffer"])
@pytest.mark.parametrize("state", ["}V__new__\nI1\ns", "(N}V__new__\nI1\nst"])
def test_what_an_admitted_name_stands_for_cannot_be_changed(named, state):
    """By the opcode that sets the state of an object, here of the class itself."""
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pickled(f"c{named}\n{state}b.".encode(), "file")
    test_what_the_numpy_of_today_writes_is_read(2, "C", b"data")


@pytest.mark.parametrize("kept", [0, 1, 10, 60, 100, 300])
def test_a_file_that_is_not_whole_is_refused(kept):
    content = pickle.dumps({b"labels": [0, 1], b"data": np.zeros((2, 100), np.uint8)})
    assert len(content) > 300
    with pytest.raises(InvalidInput, match="file cannot be read as a pickle of byte arrays"):
        read_pickled(content[:kept], "file")


def test_what_would_take_any_memory_is_refused(tmp_path):
    """Room for two thousand million objects, an array of an endless shape, and a file of 50 GiB."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
    shaped = b"\x80\x02}(U\x04data" + array + b"(K\x01(" + 9 * b"K\x01" + b"t" + dtype + b"\x89U\x01atbu."
    for content, message in ((b"}r\xff\xff\xff\x7f.", "under the number 2147483647"), (shaped, "no shape that images have")):
        with pytest.raises(InvalidInput, match=message):
            read_pickled(content, "file")
    overrides, _ = small_cifar10(tmp_path)
    os.truncate(tmp_path / "cifar-10-batches-py/data_batch_2", 50 * 2**30)
    with pytest.raises(InvalidInput, match=r"data_batch_2 has 53,687,091,200 bytes, more than the 268,435,456"):
        part("data", "data=cifar10", *overrides).splits()


@pytest.mark.parametrize("kept", [None, 1000])
def test_a_file_that_is_missing_or_cut_short_is_fetched(tmp_path, monkeypatch, kept):
    overrides, (x, _) = small_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py/data_batch_3"
    whole = path.read_bytes()
    path.unlink() if kept is None else path.write_bytes(whole[:kept])
    monkeypatch.setattr("torchvision.datasets.CIFAR10", lambda folder, download: small_cifar10(Path(folder)))
    splits = part("data", "data=cifar10", *overrides, "data.download=true").splits()
    assert torch.equal(splits["train"].x, x[:80])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("wrong", [0.7, -5, 10, "a", None, [1, 2], 2**80, float("nan")], ids=str)
def test_labels_that_are_no_classes_are_refused(tmp_path, wrong):
    overrides, _ = small_cifar10(tmp_path)
    held = {b"data": np.zeros((20, 3072), np.uint8), b"labels": [wrong] + 19 * [0]}
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(held))
    with pytest.raises(InvalidInput, match=r"labels in .*data_batch_3 are not one whole number from 0 to 9"):
        part("data", "data=cifar10", *overrides, "data.labels=true").splits()


def test_missing_wrong_and_foreign_files_are_one_line(tmp_path):
    with pytest.raises(InvalidInput, match=r"no data_batch_1 in .*cifar-10-python.tar.gz .*data.download=true"):
        part("data", "data=cifar10", f"data.root={tmp_path}").splits()
    overrides, _ = small_cifar10(tmp_path)
    with pytest.raises(InvalidInput, match=r"12 test images and 12 labels .* data.sizes asks for 13 of each"):
        part("data", "data=cifar10", *overrides, "data.sizes.test=13").splits()
    with pytest.raises(InvalidInput, match=r"data_batch_1 is not CIFAR10's \(md5 .*, not c99caf"):
        part("data", "data=cifar10", *[o for o in overrides if "md5" not in o]).splits()
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(
        pickle.dumps({b"fine_labels": [1], b"data": np.zeros(3, np.uint8)})
    )
    with pytest.raises(InvalidInput, match=r"data_batch_3 does not hold images of 3×32×32"):
        part("data", "data=cifar10", *overrides).splits()
