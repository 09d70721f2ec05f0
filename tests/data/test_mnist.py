"""MNIST's files: what is read of them, and what is said of broken ones."""

import hashlib
import multiprocessing
import struct
import time
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from support.catalogue import composed, part
from support.idx_files import small_mnist, write_idx
from vdm.data.mnist import HANDWRITTEN, MNIST, read_idx
from vdm.errors import InvalidInput


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
def test_reads_what_was_written_wherever_torchvision_leaves_it(tmp_path, ending, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    overrides, tensors = small_mnist(tmp_path / folder, ending=ending)
    splits = part("data", "data=mnist", *overrides[1:], f"data.root={tmp_path}", "data.labels=true").splits()
    (x, label), (test, _) = tensors["train"], tensors["t10k"]
    assert torch.equal(torch.cat([splits["train"].x, splits["val"].x])[:, 0], x)
    assert torch.equal(splits["test"].x[:, 0], test)
    assert torch.equal(splits["train"].condition, label[:80].long())
    assert [len(splits[name].x) for name in ("train", "val", "test")] == [80, 20, 12]


def test_labels_are_conditions_only_if_asked_for(tmp_path):
    overrides, _ = small_mnist(tmp_path)
    assert part("data", "data=mnist", *overrides).splits()["train"].condition is None


@pytest.mark.parametrize(
    ("labels", "wrong"), [(True, torch.full((100,), 77)), (True, torch.ones(100, 3)), (False, torch.ones(100, 3))]
)
def test_labels_that_are_no_classes_of_the_images_are_refused(tmp_path, labels, wrong):
    overrides, _ = small_mnist(tmp_path, ending="")
    write_idx(tmp_path / "train-labels-idx1-ubyte", wrong.to(torch.uint8))
    with pytest.raises(InvalidInput, match=r"labels in .*train-labels-idx1-ubyte are not one whole number from 0 to"):
        part("data", "data=mnist", *overrides, f"data.labels={labels}").splits()


def test_more_classes_than_ten_are_no_matter_to_those_who_do_not_ask(tmp_path):
    overrides, _ = small_mnist(tmp_path, ending="")
    write_idx(tmp_path / "train-labels-idx1-ubyte", torch.full((100,), 77, dtype=torch.uint8))
    assert len(part("data", "data=mnist", *overrides).splits()["train"].x) == 80


def test_the_real_ones_are_known_by_their_sum(tmp_path):
    overrides, _ = small_mnist(tmp_path)
    stated = [override for override in overrides if "sha256" not in override]
    with pytest.raises(InvalidInput, match=r"is not MNIST's .* data.sha256=null"):
        part("data", "data=mnist", *stated).splits()


@pytest.mark.parametrize("stem", ["train", "t10k"])
def test_mnist_is_not_taken_for_another_of_its_format(tmp_path, monkeypatch, stem):
    assert tuple(composed("data=mnist").data.sha256[part] for part in ("train", "t10k")) == HANDWRITTEN
    overrides, tensors = small_mnist(tmp_path)
    part("data", "data=fashion_mnist", *overrides).splits()
    found = hashlib.sha256(tensors[stem][0].numpy().data).hexdigest()
    monkeypatch.setattr("vdm.data.mnist.HANDWRITTEN", (found,))
    with pytest.raises(InvalidInput, match=rf"fashion_mnist: .*{stem}-images.* holds MNIST's images: set data.root= to Fa"):
        part("data", "data=fashion_mnist", *overrides).splits()


def test_other_classes_are_other_data(tmp_path):
    """The fingerprint of a split with conditions is of both; without conditions the classes are no part of it."""
    overrides, tensors = small_mnist(tmp_path)

    def found(labels):
        return part("data", "data=mnist", *overrides, f"data.labels={labels}").provenance()["splits"]["test"]["sha256"]

    before = found(True), found(False)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", 9 - tensors["t10k"][1])
    after = found(True), found(False)
    assert after[0] != before[0] != before[1] == after[1]


def test_missing_files_and_wrong_sizes_are_one_line(tmp_path):
    with pytest.raises(InvalidInput, match=r"no train-images-idx3-ubyte or .*data.download=true"):
        part("data", "data=mnist", f"data.root={tmp_path}").splits()
    overrides, _ = small_mnist(tmp_path)
    with pytest.raises(InvalidInput, match=r"12 test images and 12 labels .* data.sizes asks for 13 of each"):
        part("data", "data=mnist", *overrides, "data.sizes.test=13").splits()
    with pytest.raises(InvalidInput, match=r"data\.sizes\.val must be at least 1, got 0"):
        part("data", "data=mnist", *overrides, "data.sizes.train=100", "data.sizes.val=0").splits()


@pytest.mark.parametrize("kept", [0, 3, 7, 11, 20])
def test_a_file_that_is_not_whole_is_refused(tmp_path, kept):
    write_idx(tmp_path / "a", torch.arange(20, dtype=torch.uint8).view(4, 5))
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:kept])
    with pytest.raises(InvalidInput, match=r"idx file of bytes|cut short"):
        read_idx(tmp_path / "b")


@pytest.mark.parametrize(("shape", "length"), [((), 1), ((1,) * 100, 1), ((2**31, 2**31, 4), 0)], ids=["0", "100", "2^64"])
def test_no_header_is_believed(tmp_path, shape, length):
    """Of dimensions that no image has, or whose product is too large for 64 bits."""
    (tmp_path / "a").write_bytes(bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + bytes(length))
    with pytest.raises(InvalidInput, match=r"idx file of bytes|cut short"):
        read_idx(tmp_path / "a")


def test_a_broken_archive_is_refused(tmp_path):
    write_idx(tmp_path / "a.gz", torch.arange(200, dtype=torch.uint8))
    (tmp_path / "b.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:40])
    (tmp_path / "c.gz").write_bytes(b"<html>not found</html>")
    for name in ("b.gz", "c.gz"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_idx(tmp_path / name)


class TestFetching:
    """With torchvision's part played by a copy of small files, byte after byte."""

    @pytest.fixture
    def fetched(self, tmp_path, monkeypatch):
        """The overrides that fetch into an empty folder, the folder, and a list that says for each time how it went."""
        (tmp_path / "far").mkdir()
        overrides, _ = small_mnist(tmp_path / "far", ending="")
        log = tmp_path / "log"
        log.touch()

        class Far:
            fails = None

            def __init__(self, root, download):
                with log.open("a") as file:
                    file.write("fetched\n")
                raw = Path(root) / "MNIST/raw"
                raw.mkdir(parents=True)
                for path in (tmp_path / "far").iterdir():
                    with (raw / path.name).open("wb") as file:
                        content = path.read_bytes()
                        file.write(content[: len(content) // 2])
                        file.flush()
                        time.sleep(0.02)
                        if self.fails is not None:
                            raise self.fails
                        file.write(content[len(content) // 2 :])

        monkeypatch.setattr(MNIST, "fetcher", lambda self: Far)
        monkeypatch.setattr(MNIST, "url", "http://far/")
        root = tmp_path / "here"
        return [f"data.root={root}", *overrides[1:], "data.download=true"], root, Far, log

    @pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
    @pytest.mark.parametrize("spoilt", [None, "missing", "cut"])
    def test_what_is_missing_or_broken_is_fetched_once(self, tmp_path, fetched, spoilt, place):
        overrides, root, _, log = fetched
        path = root / place / "t10k-labels-idx1-ubyte"
        if spoilt:
            path.parent.mkdir(parents=True)
            small_mnist(path.parent, ending="")
            path.write_bytes(path.read_bytes()[:10]) if spoilt == "cut" else path.unlink()
        for _ in range(2):
            splits = part("data", "data=mnist", *overrides).splits()
            assert [len(split.x) for split in splits.values()] == [80, 20, 12]
        assert log.read_text() == "fetched\n"
        assert {".fetched.lock", "MNIST"} <= {path.name for path in root.iterdir()}
        assert not (root / ".fetched.part").exists()

    @pytest.mark.parametrize(
        "error", [RuntimeError("Error:\nTried"), URLError("no network"), IncompleteRead(b"a"), OSError(28, "full")], ids=repr
    )
    def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(self, fetched, error):
        overrides, root, far, _ = fetched
        far.fails = error
        with pytest.raises(
            InvalidInput, match=r"^http://far/ cannot be fetched \(.*\): put its files into .*here/MNIST/raw"
        ):
            part("data", "data=mnist", *overrides).splits()
        assert [path.name for path in root.iterdir()] == [".fetched.lock"]

    def test_whole_files_of_others_are_not_replaced(self, fetched):
        overrides, root, _, log = fetched
        (root / "MNIST/raw").mkdir(parents=True)
        small_mnist(root / "MNIST/raw", test=13, ending="")
        with pytest.raises(InvalidInput, match="13 test images"):
            part("data", "data=mnist", *overrides).splits()
        with pytest.raises(InvalidInput, match=r"is not MNIST's .*: remove it and set data.download=true"):
            part("data", "data=mnist", *(o for o in overrides if "sha256" not in o)).splits()
        assert log.read_text() == ""

    def test_processes_that_start_together_fetch_once(self, fetched):
        overrides, _, _, log = fetched
        context = multiprocessing.get_context("fork")
        start, queue = context.Event(), context.Queue()

        def fetch():
            start.wait()
            queue.put(part("data", "data=mnist", *overrides).provenance()["splits"]["test"]["sha256"])

        processes = [context.Process(target=fetch) for _ in range(3)]
        for process in processes:
            process.start()
        start.set()
        assert len({queue.get(timeout=60) for _ in processes}) == 1
        for process in processes:
            process.join()
        assert log.read_text() == "fetched\n"
