"""How work is shared between processes."""

import pytest
import torch

from vdm.evaluation import ranks


@pytest.mark.parametrize(("n", "batch_size", "world"), [(10, 3, 2), (11, 4, 3), (5, 5, 2), (2, 1, 4)])
def test_rank_batches_partition_the_batches(n, batch_size, world, monkeypatch):
    shares = []
    for rank in range(world):
        monkeypatch.setattr(ranks, "rank_and_world_size", lambda rank=rank: (rank, world))
        shares += [tuple(index.tolist()) for index in ranks.rank_batches(n, batch_size)]
    whole = [tuple(index.tolist()) for index in torch.arange(n).split(batch_size)]
    assert sorted(shares) == whole
