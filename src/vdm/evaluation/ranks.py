"""What the processes of a run share out and put together, where no Trainer does it for them; and how a device's numbers
reach its process."""

from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors


def rank_and_world_size() -> tuple[int, int]:
    """(rank, how many processes)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def is_rank_zero() -> bool:
    """Whether this is the process of rank 0, before there is a Trainer to ask."""
    return not int(getattr(rank_zero_only, "rank", 0))


def rank_batches(n: int, batch_size: int) -> Iterator[Tensor]:
    """This process's share of 0 … n − 1: every W-th of the batches that one process would go through."""
    rank, processes = rank_and_world_size()
    return iter(torch.arange(n).split(batch_size)[rank::processes])


def true_on_all_ranks(true: bool, device: torch.device) -> bool:
    """Whether all processes say so; on ``device`` they exchange it."""
    return not max_all_reduce(torch.tensor(int(not true), device=device)).item()


def max_all_reduce(votes: Tensor) -> Tensor:
    """The largest of all processes' ``votes``, number by number, in place; nobody waits for a device."""
    if rank_and_world_size()[1] > 1:
        distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return votes


class AsyncHostCopy:
    """Numbers on their way from a device to its process.

    Reading them waits for what the device had been asked before, and not for what it has been asked since: where that is
    much, the device works on.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.detach().to("cpu", non_blocking=numbers.is_cuda)  # into pinned memory
        self._arrived = torch.cuda.Event() if numbers.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._numbers


class LaggedAllReduce:
    """What processes tell each other at every step, and read a step later: what all say now is on its way meanwhile.

    So nobody waits, and all read the same. A single process reads its own vote at once.
    """

    def __init__(self) -> None:
        self._coming: AsyncHostCopy | None = None

    def exchange(self, own: Tensor, device: torch.device, now: bool = False) -> Tensor:
        """The greatest of all processes' votes of the step before, number by number; with ``now`` of this one."""
        if rank_and_world_size()[1] == 1:
            return own
        earlier, self._coming = self._coming, AsyncHostCopy(max_all_reduce(own.to(device, non_blocking=True)))
        read = self._coming if now else earlier
        return torch.zeros_like(own) if read is None else read.read()

    def forget(self) -> None:
        """Drop what is on its way."""
        self._coming = None


def all_gather_rows(pieces: Sequence[tuple[Tensor, Tensor]], width: int, device: torch.device) -> Tensor:
    """(n, width) on the CPU and in all processes: their pieces (index, rows), in the order of the index."""
    index = torch.cat([torch.empty(0, dtype=torch.long), *(index for index, _ in pieces)])
    rows = torch.cat([torch.empty(0, width), *(rows for _, rows in pieces)])
    if rank_and_world_size()[1] > 1:
        index, rows = (torch.cat(gather_all_tensors(part.to(device))).cpu() for part in (index, rows))
    return rows[index.argsort()]
