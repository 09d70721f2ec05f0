"""Files that would make their reader fork, allocate or compute without bound: refused in one line, at once."""

import json
import os
import shutil
import struct
import time
import zipfile

import pytest
import torch

from support.exports import MODELS, exported
from vdm.errors import InvalidInput
from vdm.runs import exported as exports
from vdm.runs.bounds import NODES, check_tree
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.load import load_run
from vdm.runs.reading import read_json, read_yaml, reading
from vdm.runs.sweeps import read_run
from vdm.runs.tables import read_rows

SECONDS = 5.0


@pytest.fixture(autouse=True)
def quick():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < SECONDS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path, _ = exported(tmp_path_factory.mktemp("bounds"), MODELS["vdm"][1])
    return path


def changed(checkpoint, path, change):
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, path)
    return str(path)


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))


def overlapping(path):
    """20,000 entries over the same ten megabytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/0", bytes(10**7))
        first = archive.infolist()[0]
        for number in range(1, 20_000):
            other = zipfile.ZipInfo(f"x/{number}")
            other.header_offset, other.file_size, other.compress_size, other.CRC = (
                0,
                first.file_size,
                first.file_size,
                first.CRC,
            )
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other


def huge_directory(path):
    """An archive that claims a table of contents of 3 GB, in a sparse file."""
    with path.open("wb") as file:
        file.truncate(3 * 10**9)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 60_000, 60_000, 3 * 10**9, 0, 0))


def larger_than_memory(path):
    with path.open("wb") as file:
        file.truncate(10**13)


@pytest.mark.parametrize("attack", [compressed, overlapping, huge_directory, larger_than_memory])
def test_archive_that_unpacks_to_more_is_refused(attack, tmp_path):
    path = tmp_path / "x.ckpt"
    attack(path)
    with pytest.raises(InvalidInput, match=r"x\.ckpt") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def doubled(depth):
    tree = []
    for _ in range(depth):
        tree = [tree, tree]
    return tree


def deep(depth):
    tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


def expanded(content):
    name, value = next((n, v) for n, v in content["state_dict"].items() if v.numel() > 1)
    content["state_dict"][name] = torch.zeros(1).expand(10**9) if value.ndim == 1 else torch.zeros(()).expand(value.shape)


def in_config(*keys):
    """Return a change of one setting of a checkpoint's config."""
    *parents, last, value = keys

    def change(content):
        node = content["vdm"]["config"]
        for key in parents:
            node = node[key]
        node[last] = value

    return change


ATTACKS = {
    "shared lists": (in_config("model", "extra", doubled(40)), "values"),
    "shared lists in the provenance": (lambda c: c["vdm"].update(provenance={"x": doubled(40)}), "values"),
    "deep lists": (in_config("model", "extra", deep(150)), "levels"),
    "one number as many": (expanded, "not stored in full"),
    "a huge model": (in_config("model", "denoiser", "network", "channels", 10**6), "far larger than its weights"),
    "many blocks": (in_config("model", "denoiser", "network", "blocks", 10**9), "far larger than its weights"),
    "huge batches": (in_config("data", "eval_batch_size", 10**6), "a file may ask for 10,000"),
    "many draws": (in_config("test", "repeats", 10**7), "a file may ask for 10,000"),
    "huge images": (in_config("data", "event_shape", [1, 10**5, 10**5]), "10,000,000,000 dimensions"),
    "huge splits": (in_config("data", "sizes", {"train": 10**12}), "above 10,000,000"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_checkpoint_cannot_ask_for_more_than_it_holds(attack, checkpoint, tmp_path):
    change, message = ATTACKS[attack]
    with pytest.raises(InvalidInput, match=message) as caught:
        load_run(changed(checkpoint, tmp_path / "x.ckpt", change))
    assert "\n" not in str(caught.value)


def test_resources_of_the_reader_are_the_readers(checkpoint, tmp_path):
    """A foreign checkpoint starts no workers and names no device; the reader may."""

    def claim(content):
        content["vdm"]["config"]["data"] |= {"workers": 1000, "device": "cuda:7"}

    path = changed(checkpoint, tmp_path / "x.ckpt", claim)
    data = load_run(path).data
    assert (data.workers, data.device) == (0, None)
    assert load_run(path, changes={"data.workers": 2}).data.workers == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_are_refused(dtype, checkpoint, tmp_path):
    def rounded(content):
        state = content["state_dict"]
        state.update({name: value.to(dtype) for name, value in state.items() if value.is_floating_point()})

    with pytest.raises(InvalidInput, match=f"is {str(dtype)[6:]}, and training wrote float32"):
        load_run(changed(checkpoint, tmp_path / "x.ckpt", rounded))


def test_exported_model_cannot_be_larger_than_its_weights(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint.parent / "model", tmp_path / "model")
    tree = json.loads((folder / "vdm.json").read_text()) | {"own_sha256": None}
    tree["model"]["denoiser"]["network"]["channels"] = 10**6
    (folder / "vdm.json").write_text(json.dumps(tree))
    with pytest.raises(InvalidInput, match="far larger than its weights"):
        exports.load(folder)


def alias_bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


YAML = {
    "aliases": alias_bomb(),
    "depth": "[" * 100_000,
    "size": "a: " + "x" * 10**6,
    "interpolations": "a: '" + "${" * 10_000 + "'",
}


@pytest.mark.parametrize("attack", YAML)
def test_yaml_of_a_run_folder_is_bounded(attack, tmp_path):
    path = tmp_path / "overrides.yaml"
    path.write_text(YAML[attack])
    with pytest.raises(InvalidInput, match=r"overrides\.yaml"), reading(path):
        read_yaml(path)
    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 3}")
    assert read_run(tmp_path).state == "failed"


def test_yaml_that_vdm_writes_is_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("- optimizer.lr=1e-3\n- a: 1e-3\n  b: '2026-11-27'\n  c: ${now:%Y}\n")
    assert read_yaml(path) == ["optimizer.lr=1e-3", {"a": 0.001, "b": "2026-11-27", "c": "${now:%Y}"}]


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "0," * NODES + "0]", '"' + "x" * 2**24 + '"', "9" * 10**5])
def test_json_of_a_run_folder_is_bounded(text, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"metrics\.json"), reading(path):
        read_json(path)


def many_columns(path):
    path.write_text("step" + "," * 5000 + "\n")


def short_rows(path):
    path.write_text("step" + "," * 4000 + "\n" + "1\n" * 100_000)


def long_field(path):
    path.write_text("step,x\n1," + "1" * 10**6 + "\n")


@pytest.mark.parametrize("attack", [many_columns, short_rows, long_field, larger_than_memory])
def test_csv_of_a_run_folder_is_bounded(attack, tmp_path):
    path = tmp_path / "metrics.csv"
    attack(path)
    with pytest.raises(InvalidInput, match=r"metrics\.csv"), reading(path):
        read_rows(path)


def test_check_tree_counts_what_is_met_twice():
    check_tree({"a": [1, 2, {"b": (3,)}]}, "x")
    for tree in (doubled(60), deep(70), [0] * (NODES + 1)):
        with pytest.raises(InvalidInput, match="x has more than"):
            check_tree(tree, "x")
