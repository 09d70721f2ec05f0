"""Communication between the processes of a run, and from a device to its process, where no Trainer does it."""

from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; 0 and 1 without torch.distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def is_rank_zero() -> bool:
    """Return whether this process has rank 0; works before a Trainer or a process group exists."""
    return not int(getattr(rank_zero_only, "rank", 0))


def rank_batches(n: int, batch_size: int) -> Iterator[Tensor]:
    """Yield this process's share of 0 … n − 1: every W-th of the batches that a single process would have."""
    rank, processes = rank_and_world_size()
    return iter(torch.arange(n).split(batch_size)[rank::processes])


def true_on_all_ranks(true: bool, device: torch.device) -> bool:
    """Return whether ``true`` holds in all processes, which communicate through ``device``."""
    return not max_all_reduce(torch.tensor(int(not true), device=device)).item()


def max_all_reduce(values: Tensor) -> Tensor:
    """Replace ``values`` elementwise by the maximum over all processes, without waiting for a device."""
    if rank_and_world_size()[1] > 1:
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


class AsyncHostCopy:
    """A tensor that is being copied from a device to pinned host memory.

    ``read`` waits only for work queued on the device before the copy; work queued later keeps running.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach().to("cpu", non_blocking=values.is_cuda)
        self._copied = torch.cuda.Event() if values.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> Tensor:
        """Return the tensor on the CPU."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values


class LaggedAllReduce:
    """A max all-reduce whose result is read one step later, so that no rank waits.

    All ranks read the same result. A single process reads its own values at once.
    """

    def __init__(self) -> None:
        self._pending: AsyncHostCopy | None = None

    def exchange(self, own: Tensor, device: torch.device, now: bool = False) -> Tensor:
        """Reduce ``own`` and return the previous step's result, zeros before the first; with ``now``, this step's."""
        if rank_and_world_size()[1] == 1:
            return own
        previous, self._pending = self._pending, AsyncHostCopy(max_all_reduce(own.to(device, non_blocking=True)))
        read = self._pending if now else previous
        return torch.zeros_like(own) if read is None else read.read()

    def forget(self) -> None:
        """Drop the pending result."""
        self._pending = None


def all_gather_rows(pieces: Sequence[tuple[Tensor, Tensor]], width: int, device: torch.device) -> Tensor:
    """Gather all processes' pieces (index, rows), sorted by index: (n, width), on the CPU of every process."""
    index = torch.cat([torch.empty(0, dtype=torch.long), *(index for index, _ in pieces)])
    rows = torch.cat([torch.empty(0, width), *(rows for _, rows in pieces)])
    if rank_and_world_size()[1] > 1:
        index, rows = (torch.cat(gather_all_tensors(part.to(device))).cpu() for part in (index, rows))
    return rows[index.argsort()]
