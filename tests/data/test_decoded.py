"""Data sets that are decoded once: both releases of small ImageNet, and any folder of images."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from support.catalogue import composed, part
from support.image_files import drawn, encoded, small_folder, small_imagenet, small_imagenet_pictures
from vdm.data import image_files
from vdm.data import split as split_module
from vdm.data.decoding import Decoding, Unusable
from vdm.data.image_files import Archive, centre, cropped, fit_name, stretched
from vdm.errors import InvalidInput
from vdm.training.build import build

SPLITS = ("train", "val", "test")
DEEP_ONES = "of more than 8 bits a channel"


class TestTheArrays:
    @pytest.mark.parametrize("side", [32, 64])
    @pytest.mark.parametrize("folder", [".", "Imagenet_train_npz"])
    def test_reads_what_was_written(self, tmp_path, side, folder):
        overrides, (x, label) = small_imagenet(tmp_path / "a" / folder, side)
        overrides[0] = f"data.root={tmp_path}/a"
        data = part("data", f"data=imagenet{side}", *overrides, "data.labels=true")
        splits = data.splits()
        assert [len(splits[name].x) for name in SPLITS] == [22, 8, 4]
        assert torch.equal(torch.cat([splits[name].x for name in SPLITS]), x)
        assert torch.equal(torch.cat([splits[name].condition for name in SPLITS]), label)
        assert data.provenance()["name"] == f"imagenet{side}"

    def test_a_release_is_known_by_its_count(self, tmp_path):
        overrides, _ = small_imagenet(tmp_path)
        with pytest.raises(InvalidInput, match=r"30 training images in .* this release has 1281167: .* the other release"):
            part("data", "data=imagenet32", *overrides[:2]).splits()
        with pytest.raises(InvalidInput, match=r"4 validation images .* this release has 5"):
            part("data", "data=imagenet32", *overrides, "data.sizes.test=5").splits()
        for side in (32, 64):
            stated = {name: composed(f"data={name}").data.sizes for name in (f"imagenet{side}", f"imagenet{side}_oord")}
            assert {name: (s.train + s.val, s.test) for name, s in stated.items()} == {
                f"imagenet{side}": (1_281_167, 50_000),
                f"imagenet{side}_oord": (1_281_149, 49_999),
            }

    def test_missing_broken_and_foreign_files_are_one_line(self, tmp_path):
        overrides, _ = small_imagenet(tmp_path)
        path, data = tmp_path / "train_data_batch_7.npz", part("data", "data=imagenet32", *overrides)
        whole = path.read_bytes()
        arrays = {"data": np.zeros((3, 12), np.uint8), "labels": np.ones(3)}
        np.savez(path, **arrays)
        with pytest.raises(InvalidInput, match=r"batch_7.npz holds uint8 of shape \(3, 12\), not bytes of \(3, 3072\)"):
            data.splits()
        np.savez(path, **{**arrays, "labels": np.array([print], dtype=object)})
        with pytest.raises(InvalidInput, match=r"batch_7.npz cannot be read as an npz file with 'labels'"):
            data.splits()
        damaged = (b"", whole[:100], whole[:-200], b"<html>", whole[:2000] + b"\0" * 50 + whole[2050:])
        for content in (*damaged, *odd_npz()):
            path.write_bytes(content)
            with pytest.raises(InvalidInput, match=r"train_data_batch_7.npz cannot be read as an npz file"):
                part("data", "data=imagenet32", *overrides).splits()
        path.unlink()
        with pytest.raises(InvalidInput, match=r"there is no .*train_data_batch_7.npz: .*https://image-net.org"):
            part("data", "data=imagenet32", *overrides).splits()
        assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir() and not p.name.endswith(".part")]

    def test_a_file_under_another_s_name_is_refused(self, tmp_path):
        overrides, _ = small_imagenet(tmp_path)
        shutil.copy(tmp_path / "train_data_batch_4.npz", tmp_path / "train_data_batch_3.npz")
        with pytest.raises(InvalidInput, match=r"batch_4.npz has the images of .*batch_3.npz: fetch it again"):
            part("data", "data=imagenet32", *overrides).splits()

    def test_of_two_releases_the_one_in_root_is_read_or_none(self, tmp_path):
        overrides, (x, _) = small_imagenet(tmp_path / "a")
        for backup in ("1", "2"):
            small_imagenet(tmp_path / "a" / backup, 64)
        assert torch.equal(part("data", "data=imagenet32", *overrides).splits()["test"].x, x[-4:])
        (tmp_path / "a/val_data.npz").unlink()
        with pytest.raises(InvalidInput, match=r"both .*a/1/val_data.npz and .*a/2/val_data.npz: set data.root="):
            part("data", "data=imagenet32", *overrides).splits()

    @pytest.mark.parametrize(
        "wrong",
        [range(3), np.ones((3, 4), int), 3, [1.6, 2, 3], 3 * [np.nan], 3 * [1001], ["a", "b", "c"]],
        ids=["0-based", "2-D", "0-D", "fractions", "NaN", "too large", "words"],
    )
    def test_labels_that_are_no_classes_are_refused(self, tmp_path, wrong):
        overrides, (x, _) = small_imagenet(tmp_path)
        np.savez(tmp_path / "train_data_batch_3.npz", data=x[:3].flatten(1).numpy(), labels=wrong)
        refused = r"labels in .*batch_3.npz are not one whole number from 1 to 1000|batch_3.npz(:| cannot be read)"
        with pytest.raises(InvalidInput, match=refused):
            part("data", "data=imagenet32", *overrides).splits()


def odd_npz():
    """Labels of a header that does not end, of 10¹³ bytes, encrypted, and packed as nobody packs."""
    for header, flag, value in (("(", 6, 0), (HUGE, 6, 0), (PLAIN, 6, 1), (PLAIN, 8, 99)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            text = f"{header}\n".encode()
            archive.writestr("labels.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + b"abc")
        content = bytearray(buffer.getvalue())
        content[flag] = content[content.index(b"PK\1\2") + flag + 2] = value
        yield bytes(content)


PLAIN = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }"
HUGE = PLAIN.replace("3", "10000000000000")


class TestThePictures:
    @pytest.mark.parametrize("archives", [False, True])
    def test_every_image_is_in_one_split(self, tmp_path, archives):
        overrides, images = small_imagenet_pictures(tmp_path, archives=archives)
        data = part("data", "data=imagenet32_oord", *overrides)
        splits = data.splits()
        assert [len(splits[name].x) for name in SPLITS] == [22, 8, 4]
        found = {x.numpy().tobytes() for name in SPLITS for x in splits[name].x}
        assert found == {image.numpy().tobytes() for image in images.values()}
        valid = torch.stack([image for (part, _), image in images.items() if part == "valid"])
        assert torch.equal(splits["test"].x, valid)
        assert data.provenance()["name"] == "imagenet32_oord"

    @pytest.mark.parametrize("inner", [None, "train_32x32", "a/b"])
    def test_folders_and_archives_are_one_data_set(self, tmp_path, inner):
        """However deep in folders they were unpacked."""
        prints = []
        for archives in (False, True):
            root = tmp_path / str(archives)
            overrides, _ = small_imagenet_pictures(root, archives=archives)
            if inner and not archives:
                (root / "train_32x32" / inner).mkdir(parents=True)
                for path in sorted((root / "train_32x32").glob("*.png"))[::2]:
                    path.rename(path.parent / inner / path.name)
            prints.append(part("data", "data=imagenet32_oord", *overrides).provenance())
        assert prints[0] == prints[1]

    @pytest.mark.parametrize(("kept", "found"), [(True, 31), (False, 29)])
    def test_two_images_of_one_name_are_refused(self, tmp_path, kept, found):
        """Beside all the others, and in the place of one that is missing."""
        overrides, _ = small_imagenet_pictures(tmp_path)
        (tmp_path / "train_32x32/a").mkdir()
        shutil.copy(tmp_path / "train_32x32/0000001.png", tmp_path / "train_32x32/a/0000001.png")
        if not kept:
            (tmp_path / "train_32x32/0000002.png").unlink()
        with pytest.raises(InvalidInput, match=f"{found} training images in .* this release has 30"):
            part("data", "data=imagenet32_oord", *overrides).splits()

    def test_missing_images_and_wrong_ones_are_one_line(self, tmp_path):
        with pytest.raises(InvalidInput, match=r"there is no .*train_32x32.tar"):
            part("data", "data=imagenet32_oord", f"data.root={tmp_path}").splits()
        overrides, _ = small_imagenet_pictures(tmp_path)
        with pytest.raises(InvalidInput, match="this release has 1281149"):
            part("data", "data=imagenet32_oord", *overrides[:2]).splits()
        with pytest.raises(InvalidInput, match="no classes"):
            part("data", "data=imagenet32_oord", *overrides, "+data.labels=true").splits()
        (tmp_path / "train_32x32/0000005.png").write_bytes(encoded(drawn((3, 31, 32))))
        with pytest.raises(InvalidInput, match=r"0000005.png is of another size: fetch the release again"):
            part("data", "data=imagenet32_oord", *overrides).splits()
        (tmp_path / "broken.tar").write_bytes(b"\x1f\x8b not a tar")
        with pytest.raises(InvalidInput, match=r"broken.tar cannot be read as a tar archive"):
            Archive(tmp_path / "broken.tar")

    def test_a_file_with_holes_is_none_of_an_archive(self, tmp_path):
        """Its size is whatever it says."""
        hollow = tarfile.TarInfo("a.png")
        told = {"major": "0", "minor": "1", "map": "0,0", "size": str(10**13), "name": "a.png"}
        hollow.pax_headers = {f"GNU.sparse.{key}": value for key, value in told.items()}
        with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(hollow, io.BytesIO())
        assert Archive(tmp_path / "x.tar").names == []


class TestAFolder:
    def again(self, root, *more):
        """A data module of a folder that is there."""
        settings = (f"data.root={root}", f"data.cache={root.parent}/cache", "data.val=0.1", "data.test=0.2")
        return part("data", "data=folder", *settings, *more)

    def folder(self, root, *more):
        _, images = small_folder(root)
        return self.again(root, *more), images

    @pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32)])
    def test_images_of_the_right_size_are_read_as_they_are(self, tmp_path, shape):
        overrides, images = small_folder(tmp_path / "pets", shape=shape)
        data = part("data", "data=folder", *overrides, f"data.event_shape={list(shape)}", "data.labels=true")
        splits = data.splits()
        by_class = [{x.numpy().tobytes() for n, x in images.items() if n.startswith(kind)} for kind in ("cat", "dog", "emu")]
        for split in splits.values():
            assert all(x.numpy().tobytes() in by_class[k] for x, k in zip(split.x, split.condition, strict=True))
        assert [len(splits[name].x) for name in SPLITS] == [25, 2, 3]
        assert len({x.numpy().tobytes() for split in splits.values() for x in split.x}) == 30
        assert data.provenance()["name"] == "pets"

    def test_file_names_are_in_the_order_of_the_images(self, tmp_path):
        data, images = self.folder(tmp_path / "pets")
        for name, split in data.splits().items():
            files = data.source.file_names(name)
            assert len(files) == len(split.x)
            assert all(torch.equal(x, images[file]) for x, file in zip(split.x, files, strict=True))

    def test_file_names_are_numbers_if_files_were_left_out(self, tmp_path):
        data, _ = self.folder(tmp_path / "pets")
        (tmp_path / "pets/cat/broken.png").write_bytes(b"no image")
        data = self.again(tmp_path / "pets")
        assert data.source.file_names("val") == [f"{i:06d}" for i in range(len(data.splits()["val"].x))]

    def test_the_split_is_keyed(self, tmp_path):
        """The same in every run; another for another key; and one more file moves at most one across each border."""
        data, _ = self.folder(tmp_path / "pets")
        test = {x.numpy().tobytes() for x in data.splits()["test"].x}
        other = self.again(tmp_path / "pets", "data.order=1")
        assert test != {x.numpy().tobytes() for x in other.splits()["test"].x}
        (tmp_path / "pets/cat/new.png").write_bytes(encoded(drawn((3, 32, 32), seed=9)))
        grown = self.again(tmp_path / "pets")
        assert len(test - {x.numpy().tobytes() for x in grown.splits()["test"].x}) <= 2

    def test_it_is_decoded_once(self, tmp_path, monkeypatch):
        data, _ = self.folder(tmp_path / "pets")
        facts = data.provenance()
        again = self.again(tmp_path / "pets")
        monkeypatch.setattr(type(again.source), "blocks", None)
        assert again.provenance() == facts
        fresh = {name: split._replace(known=None).fingerprint() for name, split in again.splits().items()}
        assert fresh == {name: found["sha256"] for name, found in facts["splits"].items()}

    @pytest.mark.parametrize("file", [f"{split}.{kind}" for split in SPLITS for kind in ("x", "label")])
    def test_what_was_changed_since_is_refused(self, tmp_path, file):
        """Not a byte of what is trained on, or of what a number would be reported of; a copy of the folder is as good."""
        data, _ = self.folder(tmp_path / "pets")
        data.splits()
        path = data.source.decoded.path / file
        whole = path.read_bytes()
        path.write_bytes(whole[:7] + bytes([whole[7] ^ 1]) + whole[8:])
        with pytest.raises(InvalidInput, match=rf"{file} is damaged: remove .* decoded again"):
            self.again(tmp_path / "pets").splits()
        path.write_bytes(whole)
        assert self.again(tmp_path / "pets").provenance() == data.provenance()

    def test_many_training_images_are_not_read_through(self, tmp_path, monkeypatch):
        data, _ = self.folder(tmp_path / "pets")
        data.splits()
        read, digest = [], split_module._digest
        monkeypatch.setattr(split_module, "_digest", lambda values: (read.append(len(values)), digest(values))[1])
        again = self.again(tmp_path / "pets").splits()
        assert sum(read) == sum(len(split.x) for split in again.values()) + len(again["val"].x) + len(again["test"].x)

    @pytest.mark.parametrize(
        "content", [None, "", "{", "[]", '{"splits": {}}', '{"splits": {"train": [3, "x"]}, "notes": {}}']
    )
    def test_a_folder_that_does_not_say_what_is_in_it_is_one_line(self, tmp_path, content):
        data, _ = self.folder(tmp_path / "pets")
        facts = data.source.decoded.path / "facts.json"
        if content is None:
            facts.unlink()
        else:
            facts.write_text(content)
        with pytest.raises(InvalidInput, match=r"facts\.json is damaged: remove .* decoded again"):
            self.again(tmp_path / "pets").splits()

    def test_a_fit_is_known_by_its_module_and_arguments(self):
        def cropped(image, size, margin=0):
            return image

        own = f"{__name__}.{cropped.__qualname__}"
        assert fit_name(image_files.cropped) == fit_name(partial(image_files.cropped)) == "cropped"
        assert fit_name(cropped) == own
        assert fit_name(partial(cropped, margin=4)) == f"{own}(margin=4)"

    def test_files_of_the_same_names_sizes_and_times_are_told_apart(self, tmp_path):
        """In another place, and put into the place of those that were read."""
        found = set()
        for seed, place in enumerate(("a", "b", "a")):
            folder = tmp_path / place / "pets"
            folder.mkdir(parents=True, exist_ok=True)
            for i, x in enumerate(drawn((30, 3, 32, 32), seed)):
                (folder / f"{i}.ppm").write_bytes(encoded(x, kind="PPM"))
                os.utime(folder / f"{i}.ppm", (0, 0))
            found.add(self.again(folder, f"data.cache={tmp_path}/cache").provenance()["splits"]["train"]["sha256"])
        assert len(found) == 3

    def test_a_linked_folder_is_looked_through_once(self, tmp_path):
        """With a class in another place; nobody's images are met twice, and no folder is silently passed over."""
        data, _ = self.folder(tmp_path / "pets")
        before = data.provenance()
        (tmp_path / "pets/dog").rename(tmp_path / "dogs")
        (tmp_path / "pets/dog").symlink_to(tmp_path / "dogs")
        assert self.again(tmp_path / "pets").provenance() == before
        for twin in ("../pets", "cat"):
            (tmp_path / "pets/fox").symlink_to(twin)
            with pytest.raises(InvalidInput, match=r"pets.* and .*pets.* are one folder: remove the link"):
                self.again(tmp_path / "pets").splits()
            (tmp_path / "pets/fox").unlink()

    def test_what_fails_while_it_is_read_is_not_left_out_for_ever(self, tmp_path, monkeypatch):
        data, images = self.folder(tmp_path / "pets")
        read = image_files.Folder.read

        def failing(self, name):
            if name == "dog/3.png":
                raise OSError(errno.EIO, "Input/output error")
            return read(self, name)

        monkeypatch.setattr(image_files.Folder, "read", failing)
        with pytest.raises(InvalidInput, match=r"dog/3\.png cannot be read \(Input/output error\): repair that"):
            data.splits()
        monkeypatch.undo()
        assert sum(len(split.x) for split in self.again(tmp_path / "pets").splits().values()) == len(images)

        def listed(place, scan=os.scandir):
            if str(place).endswith("dog"):
                raise PermissionError(errno.EACCES, "Permission denied", place)
            return scan(place)

        monkeypatch.setattr(os, "scandir", listed)
        with pytest.raises(InvalidInput, match=r"dog cannot be listed \(Permission denied\)"):
            self.again(tmp_path / "pets").splits()

    @pytest.mark.parametrize("change", ["content", "fit", "shape"])
    def test_other_files_or_settings_are_decoded_anew(self, tmp_path, change):
        data, images = self.folder(tmp_path / "pets")
        before = data.provenance()["splits"]
        more = {"fit": ["data.fit._target_=vdm.data.image_files.centre"], "shape": ["data.event_shape=[3,16,16]"]}.get(
            change, []
        )
        if change == "content":
            for name in images:
                (tmp_path / "pets" / name).write_bytes(encoded(drawn((3, 40, 32), seed=5)))
        after = self.again(tmp_path / "pets", *more).provenance()["splits"]
        assert (after == before) == (change == "fit")
        assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 2

    def test_batches_come_from_a_file_that_they_do_not_change(self, tmp_path):
        data, _ = self.folder(tmp_path / "pets", "data.batch_size=5", "data.workers=2", "data.flip=true")
        path = data.source.decoded.path / "train.x"
        before = path.read_bytes()
        batches = list(data.train_dataloader())
        with pytest.raises(TypeError):
            data.splits()["train"].x[0] = 0
        assert len(batches) == len(data.splits()["train"].x) // 5
        assert path.read_bytes() == before
        path.write_bytes(before[:-1])
        with pytest.raises(InvalidInput, match=r"train.x is damaged: remove .* decoded again"):
            self.again(tmp_path / "pets").splits()

    def test_what_cannot_be_used_is_left_out_and_counted(self, tmp_path, capsys):
        overrides, images = small_folder(tmp_path / "pets")
        good = encoded(drawn((3, 64, 64)))
        bad = {
            "cut.png": good[: len(good) // 2],
            "text.jpg": b"<html>not found</html>",
            "empty.png": b"",
            "bomb.png": png_header(50_000, 50_000),
            "large.png": png_header(10_001, 10_000),
            "clear.png": encoded(drawn((4, 8, 8))),
            "deep.png": sixteen_bits(),
        }
        for name, content in bad.items():
            (tmp_path / "pets/cat" / name).write_bytes(content)
        os.mkfifo(tmp_path / "pets/cat/pipe.png")
        (tmp_path / "pets/cat/.hidden.png").write_bytes(b"")
        (tmp_path / "pets/cat/notes.txt").write_bytes(b"")
        data = part("data", "data=folder", *overrides)
        assert sum(len(split.x) for split in data.splits().values()) == len(images)
        counts = {
            "truncated, or no image": 3,
            "of too many pixels": 2,
            "transparent": 1,
            "of more than 8 bits a channel": 1,
            "unreadable": 1,
        }
        assert data.provenance()["left_out"] == counts
        told = capsys.readouterr().err
        assert "left out of 38 files" in told
        assert "3 truncated, or no image" in told
        again = part("data", "data=folder", *overrides)
        assert again.provenance()["left_out"] == counts

    def test_a_name_may_be_any_bytes(self, tmp_path):
        _, images = small_folder(tmp_path / "pets")
        os.rename(tmp_path / "pets/cat/0.png", os.fsencode(tmp_path) + b"/pets/cat/caf\xe9.png")
        data = self.again(tmp_path / "pets")
        assert sum(len(split.x) for split in data.splits().values()) == len(images)

    def test_settings_that_cannot_be_are_one_line(self, tmp_path):
        with pytest.raises(InvalidInput, match=r"there is no folder .*/none"):
            part("data", "data=folder", f"data.root={tmp_path}/none").splits()
        overrides, _ = small_folder(tmp_path / "pets", each=1)
        with pytest.raises(
            InvalidInput, match=r"3 examples cannot be split \(data.val=0.01 gives 0, .* set data.val=1 data.test=1 or more"
        ):
            part("data", "data=folder", *overrides, "data.val=0.01", "data.test=0.01").splits()
        (tmp_path / "pets/0.png").write_bytes(encoded(drawn((3, 32, 32))))
        with pytest.raises(InvalidInput, match="the folder of its class"):
            part("data", "data=folder", *overrides, "data.labels=true").splits()
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidInput, match=r"cannot be stored in .*: set data.cache="):
            part("data", "data=folder", overrides[0], f"data.cache={tmp_path}/file/cache").splits()
        for wrong, message in (("data.event_shape=[4,8,8]", r"\[3, H, W\]"), ("data.val=0.95", "with some left")):
            with pytest.raises(Exception, match=message):
                part("data", "data=folder", *overrides, wrong)

    def test_it_trains_a_model(self, tmp_path):
        overrides, _ = small_folder(tmp_path / "pets", shape=(1, 9, 9))
        small = ["data.event_shape=[1,8,8]", "model.denoiser.network.channels=8", "model.denoiser.network.blocks=1"]
        data, task = build(composed("data=folder", *overrides, *small, "data.batch_size=4"))
        assert torch.isfinite(task.model.elbo(next(iter(data.train_dataloader())).x).total).all()


def png(width, height, depth, colours, pixels, **more):
    """A PNG file by its parts."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = {"IHDR": header, **more, "IDAT": zlib.compress(pixels), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind.encode(), content) for kind, content in parts.items())


def png_header(width, height):
    """A PNG file of a few bytes that says it is large."""
    return png(width, height, 8, 2, bytes(1000))


def deep_png(colours, channels, **more):
    """8×8 pixels of 16 bits a channel: all opaque."""
    return png(8, 8, 16, colours, (b"\0" + b"\xff\xff" * 8 * channels) * 8, **more)


def deep_tiff(packed):
    """8×8 pixels of 3 × 16 bits, which Pillow cannot write."""
    pixels = zlib.compress(bytes(384)) if packed else bytes(384)
    own = {256: 8, 257: 8, 258: 122, 259: 8 if packed else 1, 262: 2, 273: 128, 277: 3, 278: 8, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in own.items())
    return b"II*\0" + struct.pack("<IH", 8, len(own)) + entries + bytes(4) + struct.pack("<3H", 16, 16, 16) + pixels


DEEP = {
    "grey": deep_png(0, 1),
    "grey with a transparent level": deep_png(0, 1, tRNS=b"\0\5"),
    "grey with alpha": deep_png(4, 2),
    "colour": deep_png(2, 3),
    "colour with a transparent one": deep_png(2, 3, tRNS=b"\0\1" * 3),
    "colour with alpha": deep_png(6, 4),
    "tiff": deep_tiff(packed=False),
    "packed tiff": deep_tiff(packed=True),
    "ppm": b"P6 8 8 65535\n" + bytes(384),
    "ppm in words": b"P3 1 1 300\n 3 4 5",
    "pgm": b"P5 8 8 65535\n" + bytes(128),
}


def decode(content, shape, fit, levels=256):
    return Decoding(shape, fit, levels, set()).content(content)


def sixteen_bits():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(buffer, "PNG")
    return buffer.getvalue()


class TestOneImage:
    def test_every_usable_mode_is_read_as_pillow_shows_it(self):
        x = drawn((3, 8, 8))
        for mode in ("RGB", "L", "1", "P", "RGBA"):
            image = Image.open(io.BytesIO(encoded(x, mode)))
            for channels, shown in ((3, "RGB"), (1, "L")):
                found = decode(encoded(x, mode), (channels, 8, 8), cropped)
                assert np.array_equal(found, np.asarray(image.convert(shown)).reshape(8, 8, channels).transpose(2, 0, 1))

    @pytest.mark.parametrize("name", DEEP)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_more_than_8_bits_a_channel_are_not_cut_to_8(self, name, channels):
        Image.open(io.BytesIO(DEEP[name])).load()
        with pytest.raises(Unusable, match=r"of more than 8 bits a channel|of mode I"):
            decode(DEEP[name], (channels, 8, 8), cropped)

    def test_a_camera_held_upright_is_turned(self):
        image = Image.fromarray(drawn((3, 4, 6)).permute(1, 2, 0).numpy())
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        image.save(buffer, "PNG", exif=exif)
        found = decode(buffer.getvalue(), (3, 6, 4), cropped)
        assert np.array_equal(found, np.rot90(np.asarray(image), -1).transpose(2, 0, 1))

    def test_the_three_fits(self):
        """A wide picture of three colours: cropped and centre lose the sides, stretched keeps them."""
        colours = np.repeat(np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8), 8, 0)[None].repeat(8, 0)
        picture = Image.fromarray(colours)
        middle = np.asarray([0, 200, 0], np.uint8)
        assert (np.asarray(cropped(picture, (8, 8))) == middle).all()
        assert (np.asarray(centre(picture, (8, 8))) == middle).all()
        seen = np.asarray(stretched(picture, (3, 1)))[0].argmax(1)
        assert seen.tolist() == [0, 1, 2]
        with pytest.raises(Unusable, match="too small"):
            centre(picture, (9, 9))
        assert cropped(picture, (4, 4)).size == (4, 4)


def decode_in_a_process(overrides, start, queue):
    start.wait()
    queue.put(part("data", "data=folder", *overrides).provenance()["splits"])


def test_processes_that_start_together_decode_once(tmp_path):
    """One decodes, the others wait for it: nothing but the finished folder and the lock is left."""
    overrides, _ = small_folder(tmp_path / "pets")
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=decode_in_a_process, args=(overrides, start, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    found = [json.dumps(queue.get(timeout=60)) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(found)) == 1
    left = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert left == ["", ".lock"]
