"""One of two processes of a test; spawned processes import this module by its name."""

import torch

from support.oracles import gaussian_denoiser
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.likelihoods import CategoricalLikelihood
from vdm.loss_history import LossHistory
from vdm.models import VDM
from vdm.schedules import LearnedEnds, MonotoneSchedule
from vdm.times import StratifiedTimes


def parallel(rank, folder):
    """One of two processes: the history after its half of a batch, and the gradients that DDP leaves."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    profile = LossHistory(5, 0.9, 0.1)
    position, value = rows()
    profile.update(position[rank::2], value[rank::2])
    net = torch.nn.parallel.DistributedDataParallel(LossOf(two_part_model()))
    net(half(rank), Draws(0, 0, rank, 2)).backward()
    gradients = {name: p.grad for name, p in net.module.named_parameters()}
    torch.save((profile.state_dict(), gradients), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


class LossOf(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch, draws):
        return self.model.loss(batch, draws).value.mean()


def rows():
    stream = torch.Generator().manual_seed(3)
    return torch.rand(40, generator=stream), torch.rand(40, generator=stream)


def half(rank):
    return Batch(torch.full((8, 3), 4 + 5 * rank), torch.arange(8))


def two_part_model():
    """A learned path and learned ends, stratified t."""
    schedule = LearnedEnds(MonotoneSchedule(-8.0, 5.0, hidden=8))
    parts = (gaussian_denoiser(0.0, 0.25), CategoricalLikelihood(17), ContinuousTime(), StratifiedTimes())
    return VDM(schedule, *parts)
