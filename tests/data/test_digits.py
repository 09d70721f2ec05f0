"""The digits, their batches, and what a resumed or shared run sees of them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from support.catalogue import part
from vdm.data import OrderedBatches, ShuffledBatches, Split
from vdm.errors import InvalidInput

X = Split(torch.arange(22)[:, None])


def rows(batches):
    return [batch.index.tolist() for batch in batches]


def test_split_is_the_documented_one():
    splits = part("data").splits()
    order = np.random.RandomState(0).permutation(1797)
    assert [len(splits[name].x) for name in ("train", "val", "test")] == [1350, 150, 297]
    together = torch.cat([splits[name].x for name in ("train", "val", "test")])
    assert np.array_equal(together[:, 0].numpy(), load_digits().images[order])
    assert together.dtype == torch.uint8
    assert (together.min(), together.max()) == (0, 16)


def test_sigma_data_is_what_the_config_says():
    x = part("data").splits()["train"].x.double()
    assert abs((2 * (x + 0.5) / 17 - 1).std() - 0.75) < 0.05


def test_an_epoch_is_a_permutation_and_the_next_another():
    batches = ShuffledBatches(X, batch_size=11, seed=0)
    first, second = rows(batches), rows(batches)
    assert sorted(i for batch in first for i in batch) == sorted(i for batch in second for i in batch) == list(range(22))
    assert first != second


def test_processes_share_the_global_batch():
    whole = rows(ShuffledBatches(X, batch_size=8, seed=0))
    halves = [rows(ShuffledBatches(X, batch_size=8, seed=0, rank=rank, world_size=2)) for rank in (0, 1)]
    assert whole == [left + right for left, right in zip(*halves, strict=True)]


@pytest.mark.parametrize("taken", [1, 2, 3, 5])
def test_resuming_in_mid_epoch_goes_on_where_it_stopped(taken):
    """Also at the end of an epoch, where nobody asks the iterator for more."""

    def stream(batches, count):
        found = []
        while len(found) < count:
            for batch in batches:
                found.append(batch.index.tolist())
                if len(found) == count:
                    break
        return found

    whole = stream(ShuffledBatches(X, batch_size=8, seed=0), 7)
    before = ShuffledBatches(X, batch_size=8, seed=0)
    head = stream(before, taken)
    after = ShuffledBatches(X, batch_size=8, seed=0)
    after.load_state_dict(before.state_dict())
    assert head + stream(after, 7 - taken) == whole


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_sees_each_example_once(world_size):
    shards = [OrderedBatches(X, 4, rank, world_size) for rank in range(world_size)]
    seen = [i for shard in shards for batch in rows(shard) for i in batch]
    assert sorted(seen) == list(range(22))
    assert [len(shard) for shard in shards] == [len(rows(shard)) for shard in shards]


def test_bad_batch_sizes_are_refused():
    with pytest.raises(InvalidInput, match="multiple of the 2 processes"):
        ShuffledBatches(X, batch_size=7, seed=0, world_size=2)
    with pytest.raises(InvalidInput, match="between 1 and the 22"):
        ShuffledBatches(X, batch_size=23, seed=0)
    with pytest.raises(InvalidInput, match="there is no split 'tset'"):
        part("data").ordered("tset")


def test_provenance_names_the_data():
    facts = part("data").provenance()
    assert facts["name"] == "digits"
    assert facts["splits"]["test"]["size"] == 297
    changed = part("data")
    changed.splits()["test"].x[0, 0, 0, 0] += 1
    assert changed.provenance()["splits"]["test"]["sha256"] != facts["splits"]["test"]["sha256"]
