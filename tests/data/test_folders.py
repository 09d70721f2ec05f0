"""A folder of pictures as users have them: splits by folders, levels, frames, and files that are too large."""

import io
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from support.catalogue import part
from support.image_files import drawn, encoded
from vdm.data.decoding import Decoding, Unusable
from vdm.data.image_files import Archive, as_stored, cropped
from vdm.data.shares import layout, split_named
from vdm.errors import InvalidInput


def put(root, folders, each=10, shape=(1, 8, 8)):
    """``each`` pictures in every folder; the pictures by folder, as bytes."""
    found = {}
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        x = drawn((each, *shape), seed=k)
        found[folder] = {image.numpy().tobytes() for image in x}
        for i, image in enumerate(x):
            (root / folder / f"{i}.png").write_bytes(encoded(image))
    return found


def data_of(root, *more):
    return part(
        "data", "data=folder", f"data.root={root}", f"data.cache={root.parent}/cache", "data.event_shape=[1,8,8]", *more
    )


def contents(data):
    return {name: {x.numpy().tobytes() for x in split.x} for name, split in data.splits().items()}


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Training", "Validation", "TEST"),
        ("train_8x8", "valid_8x8", "test_8x8"),
        ("x/train", "x/dev", "x/test"),
    ],
    ids=lambda folders: folders[1],
)
def test_folders_called_after_a_split_are_that_split(tmp_path, folders, capsys):
    found = put(tmp_path / "pets", folders)
    data = data_of(tmp_path / "pets")
    assert contents(data) == dict(zip(("train", "val", "test"), found.values(), strict=True))
    names = [folder.split("/")[-1] for folder in folders]
    assert data.provenance()["split"] == dict(zip(("train", "val", "test"), names, strict=True))
    assert f"train is {names[0]}/, val is {names[1]}/, test is {names[2]}/" in capsys.readouterr().err


@pytest.mark.parametrize("present", ["val", "test"])
def test_a_missing_split_is_held_out_of_train(tmp_path, present):
    found = put(tmp_path / "pets", ("train", present), each=40)
    data, missing = data_of(tmp_path / "pets"), {"val": "test", "test": "val"}[present]
    splits = contents(data)
    assert splits[present] == found[present]
    assert splits["train"] | splits[missing] == found["train"]
    assert len(splits[missing]) == {"val": 2, "test": 4}[missing]
    assert data.provenance()["split"] == {"train": "train", present: present, missing: "held out of train, by name"}


def test_classes_are_the_folders_besides_the_split_s(tmp_path):
    found = put(tmp_path / "pets", [f"{split}/{kind}" for split in ("train", "test") for kind in ("cat", "dog")])
    data = data_of(tmp_path / "pets", "data.labels=true", "data.val=1")
    for split in ("train", "test"):
        x, label = data.splits()[split].x[:], data.splits()[split].condition
        assert all(one.numpy().tobytes() in found[f"{split}/{('cat', 'dog')[k]}"] for one, k in zip(x, label, strict=True))
    inside = data_of(
        put(tmp_path / "by_class", ["cat/train", "cat/test", "dog/train", "dog/test"]) and tmp_path / "by_class"
    )
    assert len(contents(inside)["test"]) == 20


def test_names_of_one_s_own_and_none_are_taken(tmp_path, capsys):
    found = put(tmp_path / "pets", ("fit", "kept", "old"))
    splits = contents(data_of(tmp_path / "pets", "data.split_folders={train: fit, test: kept}", "data.val=2"))
    assert splits["test"] == found["kept"]
    assert splits["train"] | splits["val"] == found["fit"]
    assert "left out of 30 files: 10 outside the folders of the splits" in capsys.readouterr().err
    rest = contents(data_of(tmp_path / "pets", "data.split_folders={test: kept}", "data.val=2"))
    assert (rest["test"], rest["train"] | rest["val"]) == (found["kept"], found["fit"] | found["old"])
    put(tmp_path / "all", ("train", "test"))
    assert len(contents(data_of(tmp_path / "all", "data.split_folders=none", "data.val=2"))["test"]) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bus/a", "train/b"], r"1 images in train/ and 1 elsewhere, which does not say"),
        (["test/a", "other/b"], r"1 images in test/ and 1 elsewhere"),
        (["val/a", "test/b"], r"which does not say how to split them: set data.split_folders="),
        (["val/a", "valid/b", "train/c", "test/d"], r"val and valid are both called after val"),
        (["train/test/a"], r"lies in folders of two splits"),
    ],
)
def test_folders_that_do_not_tell_are_refused(names, message):
    with pytest.raises(InvalidInput, match=message):
        layout(names)


@pytest.mark.parametrize("settings", ["some", {"train": "none_such"}, {"tset": "a"}])
def test_split_folders_that_are_none_are_one_line(settings):
    with pytest.raises(InvalidInput, match=r"data.split_folders"):
        layout(["a/1.png"], settings)


def test_other_words_name_no_split():
    assert [split_named(name) for name in ("trains", "bullet_train", "contest", "train_test", "")] == [None] * 5
    assert layout(["bus/a", "car/b", "c"]).names == layout(["train/a", "train/b"]).names == {}


def several(kind):
    frames, buffer = [Image.fromarray(drawn((8, 8), seed=i).numpy()) for i in range(3)], io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_pictures_of_several_frames_are_left_out_and_counted(tmp_path, capsys):
    put(tmp_path / "pets", ["cat"], each=30)
    kinds = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "tif": "TIFF"}
    for ending, kind in kinds.items():
        (tmp_path / f"pets/moving.{ending}").write_bytes(several(kind))
        still = io.BytesIO()
        Image.fromarray(drawn((8, 8), seed=9).numpy()).save(still, kind)
        (tmp_path / f"pets/still.{ending}").write_bytes(still.getvalue())
    data = data_of(tmp_path / "pets")
    assert sum(len(split.x) for split in data.splits().values()) == 34
    assert data.provenance()["left_out"] == {"of several frames or pages": 4}
    assert "4 of several frames or pages" in capsys.readouterr().err


def test_a_file_of_any_size_is_left_out_unread(tmp_path):
    put(tmp_path / "pets", ["cat"], each=30)
    with (tmp_path / "pets/sparse.png").open("wb") as file:
        file.truncate(50 * 2**30)
    data = data_of(tmp_path / "pets")
    assert sum(len(split.x) for split in data.splits().values()) == 30
    assert data.provenance()["left_out"] == {"of more than 512 MiB": 1}


def test_an_archive_asks_for_no_more_than_it_holds(tmp_path):
    big = tarfile.TarInfo("big.png")
    big.size = 50 * 2**30
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 40 * 2**30
    for name, member in (("big", big), ("long", long)):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(member.tobuf(format=tarfile.GNU_FORMAT))
        os.truncate(path, 51 * 2**30)
    with pytest.raises(Unusable, match="of more than 512 MiB"):
        Archive(tmp_path / "big.tar").read("big.png")
    with pytest.raises(InvalidInput, match=r"long.tar asks for 40960 MiB at once"):
        Archive(tmp_path / "long.tar")


def levels(x, levels, mode=None, size=None, fit=as_stored, kind="PNG"):
    seen, buffer = set(), io.BytesIO()
    image = Image.fromarray(np.asarray(x))
    (image.convert(mode) if mode else image).save(buffer, kind)
    found = Decoding((1, *(size or x.shape)), fit, levels, seen).content(buffer.getvalue())
    return found[0], seen


BITS = drawn((8, 8)).numpy() > 99


@pytest.mark.parametrize(
    ("x", "mode"), [(BITS * np.uint8(255), None), (BITS * np.uint8(255), "1"), (BITS * np.uint8(1), None)]
)
def test_two_levels_become_0_and_1(x, mode):
    found, seen = levels(x, 2, mode)
    assert np.array_equal(found, BITS)
    assert seen == {"spread" if x.max() == 255 else "plain"}


@pytest.mark.parametrize("count", [4, 16])
def test_levels_of_few_bits_are_undone(count):
    own = drawn((8, 8)).numpy() % count
    assert np.array_equal(levels(own * (255 // (count - 1)), count)[0], own)
    assert np.array_equal(levels(own, count)[0], own)
    with pytest.raises(Unusable, match=f"of more than {count} levels"):
        levels(drawn((8, 8)).numpy(), count)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_kept(kind):
    x = np.random.RandomState(0).randint(0, 65536, (8, 8)).astype(np.uint16)
    found, _ = levels(x, 65536, kind=kind)
    assert (found.dtype, np.array_equal(found, x)) == (np.uint16, True)
    halved, _ = levels(np.repeat(np.repeat(x[:4, :4], 2, 0), 2, 1), 65536, size=(4, 4), fit=cropped, kind=kind)
    assert halved.shape == (4, 4)
    with pytest.raises(Unusable, match="of more than 8 bits a channel"):
        levels(x, 256, kind=kind)
    with pytest.raises(Unusable, match="of 8 bits a channel, not 16"):
        levels(x.astype(np.uint8), 65536, kind=kind)


@pytest.mark.parametrize("count", [2, 65536])
def test_a_folder_of_other_levels_is_read(tmp_path, count):
    x = np.random.RandomState(0).randint(0, count, (40, 8, 8)).astype(np.uint16)
    for i, one in enumerate(x if count > 2 else (x * 255).astype(np.uint8)):
        (tmp_path / "pets").mkdir(exist_ok=True)
        Image.fromarray(one).save(tmp_path / f"pets/{i}.png")
    data = data_of(tmp_path / "pets", f"levels={count}")
    assert contents(data)["train"] <= {one.astype(np.uint8 if count == 2 else np.int32).tobytes() for one in x}
    assert [len(split.x) for split in data.splits().values()] == [34, 2, 4]
    assert next(iter(data.ordered("test"))).x.dtype == (torch.uint8 if count == 2 else torch.int32)
    if count == 2:
        Image.fromarray(x[0].astype(np.uint8)).save(tmp_path / "pets/plain.png")
        with pytest.raises(InvalidInput, match=r"some images of .* hold 0 … 1, others 2 levels spread over 0 … 255"):
            data_of(tmp_path / "pets", "levels=2").splits()


def saved(root, count, x):
    root.mkdir()
    for i in range(count):
        x.save(root / f"{i}.png")


def test_what_was_found_and_what_would_help_is_said(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/a.npy", np.zeros(3))
    saved(tmp_path / "deep", 20, Image.fromarray(np.full((8, 8), 4000, np.uint16)))
    saved(tmp_path / "few", 10, Image.fromarray(np.zeros((8, 8), np.uint8)))
    (tmp_path / "empty").mkdir()
    for name, message in {
        "arrays": r"there is no image in .*: it holds 1 of .npy; train on arrays with data=array data.path=",
        "deep": r"left out: 20 of more than 8 bits a channel; for grey pictures of 16 bits set levels=65536",
        "few": r"10 examples cannot be split \(data.val=0.05 gives 0, data.test=0.1 gives 1\).*set data.val=1 data.test=1",
        "empty": r"it holds no files",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            data_of(tmp_path / name).splits()
    assert [len(split.x) for split in data_of(tmp_path / "few", "data.val=1", "data.test=2").splits().values()] == [7, 1, 2]
    for wrong in ("levels=1", "levels=65537"):
        with pytest.raises(InvalidInput, match="levels must be between 2 and 65536 for pictures"):
            data_of(tmp_path / "few", wrong)
    with pytest.raises(InvalidInput, match=r"pictures of more than 8 bits are read in grey only"):
        data_of(tmp_path / "few", "levels=65536", "data.event_shape=[3,8,8]")
