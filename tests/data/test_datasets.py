"""Data sets of torch, of Lightning and of Hugging Face: every form of item gives the same examples, or is refused."""

import re

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from support.catalogue import composed, part
from vdm.config.composed import to_plain
from vdm.data import from_dataset
from vdm.data.datasets import Items
from vdm.data.stored import StoredRows
from vdm.errors import InvalidInput
from vdm.training.build import build

X = np.random.RandomState(1).randint(0, 256, (40, 8, 8, 3)).astype(np.uint8)
AS_TENSOR = torch.from_numpy(X).permute(0, 3, 1, 2)

FORMS = {
    "picture": lambda i: (Image.fromarray(X[i]), i),
    "array": lambda i: (X[i], i),
    "tensor": lambda i: (AS_TENSOR[i], i),
    "to_tensor": lambda i: (AS_TENSOR[i].float() / 255, i),
    "shifted": lambda i: ((AS_TENSOR[i].float() / 255 - 0.5) / 0.5, i),
    "whole floats": lambda i: (AS_TENSOR[i].float(), torch.tensor(i)),
    "mapping": lambda i: {"pixel_values": AS_TENSOR[i], "label": i},
    "alone": lambda i: AS_TENSOR[i],
}


class Made(Dataset):
    """Items made by a function of their number."""

    def __init__(self, make=None, size=40, kind="picture"):
        self.make, self.size = make or FORMS[kind], size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return self.make(i)


class Module(LightningDataModule):
    """Somebody else's: a part of the items for training, and another for testing."""

    def __init__(self, size: int = 40):
        super().__init__()
        self.size = size

    def train_dataloader(self):
        return DataLoader(Made(size=self.size), batch_size=4)

    def test_dataloader(self):
        return DataLoader(Made(lambda i: FORMS["array"](i + 20), size=20), batch_size=4)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_item_gives_the_same_levels(form):
    data = from_dataset(Made(FORMS[form]), (3, 8, 8), labels=form != "alone")
    reference = from_dataset(Made(), (3, 8, 8))
    assert [split.fingerprint() for split in reference.splits().values()] == [
        split._replace(condition=None).fingerprint() for split in data.splits().values()
    ]
    if form != "alone":
        assert all(torch.equal(split.x, AS_TENSOR[split.condition]) for split in data.splits().values())


def test_what_does_not_fit_into_memory_stays_in_a_file(monkeypatch, tmp_path):
    small = from_dataset(Made(), (3, 8, 8)).provenance()["splits"]
    monkeypatch.setattr("vdm.data.stored.IN_MEMORY", 0)
    data = from_dataset(Made(), (3, 8, 8), items=Items(cache=str(tmp_path)), batch_size=8)
    assert isinstance(data.splits()["train"].x, StoredRows)
    assert data.provenance()["splits"] == small
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(batch.x, data.splits()["train"].x[batch.index]) for batch in data.train_dataloader())


def test_config_takes_any_data_set():
    own = [
        "data=dataset",
        f"data.source._target_={__name__}.Made",
        "+data.source.kind=to_tensor",
        "data.event_shape=[3,8,8]",
    ]
    small = ["model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=4"]
    data, task = build(composed(*own, *small))
    assert data.provenance()["splits"] == from_dataset(Made(), (3, 8, 8)).provenance()["splits"]
    assert torch.isfinite(task.model.elbo(next(iter(data.train_dataloader())).x).total).all()
    ready = part("data", *own, f"data.test_source={{_target_: {__name__}.Made, size: 7}}")
    assert torch.equal(ready.splits()["test"].x, AS_TENSOR[:7])
    noise = part("data", "data=dataset", "+data.source.size=30", "data.event_shape=[1,8,8]", "data.labels=true")
    assert (noise.name, [len(split.condition) for split in noise.splits().values()]) == ("fakedata", [25, 2, 3])


def test_a_module_of_lightning_is_taken_or_sent_there():
    own = [f"data.source._target_={__name__}.Module", "+data.source.size=20"]
    splits = part("data", "data=dataset", *own, "data.event_shape=[3,8,8]").splits()
    assert {name: len(split.x) for name, split in splits.items()} == {"train": 19, "val": 1, "test": 20}
    assert torch.equal(splits["test"].x, AS_TENSOR[20:])
    with pytest.raises(InvalidInput, match=r"got Module: .* goes to data=dataset data.source._target_="):
        build(to_plain(composed()) | {"data": {"_target_": f"{__name__}.Module"}})


def noisy(i):
    return X[i] ^ np.random.randint(0, 2, X[i].shape, dtype=np.uint8)


class Endless(IterableDataset):
    """Items without numbers."""

    def __iter__(self):
        yield from X


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        (Made(noisy), {}, "an item differs between two readings: leave random transforms out"),
        (Endless(), {}, "must be a data set of at least one item, by number, got Endless"),
        (Made(size=0), {}, "must be a data set of at least one item"),
        (Made(lambda i: AS_TENSOR[i].float() / 300), {}, "neither levels 0 … 255 nor k/255"),
        (Made(lambda i: (AS_TENSOR[i] > 99).float()), {}, "may be levels or black and white: give integers"),
        (Made(lambda i: X[i][: 8 - i % 2]), {}, "item 1 holds examples of shape (7, 8, 3)"),
        (Made(lambda i: {"picture": X[i]}), {}, "item 0 has picture: set data.keys='{image: NAME, label: NAME}'"),
        (Made(lambda i: (X[i], "cat")), {"labels": True}, "the items have no labels that are numbers"),
        (Made(lambda i: (X[i], i) if i != 30 else 1 / 0), {}, "item 30 cannot be used (ZeroDivisionError: division"),
        (Made(lambda i: Image.fromarray(X[i]).convert("F").resize((8, 8))), {}, "item 0 cannot be used (of real numbers)"),
        (Made(lambda i: X[i] if i < 30 else AS_TENSOR[i].int()), {}, "give all examples one type and shape"),
    ],
    ids=range(11),
)
def test_items_that_do_not_fit_are_one_line(data, more, message):
    with pytest.raises(InvalidInput, match=re.escape(message)) as error:
        from_dataset(data, (3, 8, 8), **more).splits()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_hugging_face_reads_what_was_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.Value("int64")})

    def saved(rows):
        pictures = [Image.fromarray(X[i]) for i in rows]
        return datasets.Dataset.from_dict({"img": pictures, "fine_label": [*rows]}, features=features)

    datasets.DatasetDict({"train": saved(range(30)), "test": saved(range(30, 40))}).save_to_disk(tmp_path / "pets")
    data = part("data", "data=huggingface", f"data.path={tmp_path}/pets", "data.event_shape=[3,8,8]", "data.labels=true")
    assert data.name == "pets"
    assert torch.equal(data.splits()["test"].x, AS_TENSOR[30:])
    assert all(torch.equal(split.x, AS_TENSOR[split.condition]) for split in data.splits().values())
    with pytest.raises(InvalidInput, match=r"cannot be loaded \(.* set data.name= or data.path="):
        part("data", "data=huggingface", f"data.path={tmp_path}/none", "data.event_shape=[3,8,8]").splits()
    with pytest.raises(InvalidInput, match=r"set data.name= .* or data.path= .* not both"):
        part("data", "data=huggingface", "data.path=null")
