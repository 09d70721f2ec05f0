"""What the processes of a run share out and put together, where no Trainer does it for them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors


def place() -> tuple[int, int]:
    """(rank, how many processes)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def turns(n: int, batch_size: int) -> Iterator[Tensor]:
    """This process's share of 0 … n − 1: every W-th of the batches that one process would go through."""
    rank, processes = place()
    return iter(torch.arange(n).split(batch_size)[rank::processes])


def everywhere(true: bool, device: torch.device) -> bool:
    """Whether all processes say so; on ``device`` they exchange it."""
    if place()[1] == 1:
        return true
    votes = torch.tensor(int(true), device=device)
    distributed.all_reduce(votes, distributed.ReduceOp.MIN)
    return bool(votes.item())


def gathered(pieces: Sequence[tuple[Tensor, Tensor]], width: int, device: torch.device) -> Tensor:
    """(n, width) on the CPU and in all processes: their pieces (index, rows), in the order of the index."""
    index = torch.cat([torch.empty(0, dtype=torch.long), *(index for index, _ in pieces)])
    rows = torch.cat([torch.empty(0, width), *(rows for _, rows in pieces)])
    if place()[1] > 1:
        index, rows = (torch.cat(gather_all_tensors(part.to(device))).cpu() for part in (index, rows))
    return rows[index.argsort()]
