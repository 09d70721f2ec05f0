"""Batches by worker processes, and mirrored ones: the order, the state and the examples of plain ones."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support.catalogue import part
from support.image_files import small_cifar10
from vdm.data import OrderedBatches, ShuffledBatches, Split
from vdm.data.stored import StoredRows
from vdm.errors import InvalidInput

IMAGES = Split(torch.arange(22 * 12, dtype=torch.uint8).view(22, 3, 2, 2), torch.arange(22) % 3)


def stream(batches, count):
    """The next ``count`` batches, over as many epochs as it takes."""
    found = []
    while len(found) < count:
        for batch in batches:
            found.append(batch)
            if len(found) == count:
                break
    return found


def same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert type(a) is type(b)
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def shuffled(**settings):
    return ShuffledBatches(IMAGES, 8, seed=3, **settings)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
def test_workers_give_what_one_process_gives(flip, share):
    place = dict(zip(("rank", "world_size"), share, strict=True))
    same(stream(shuffled(flip=flip, workers=2, **place), 7), stream(shuffled(flip=flip, **place), 7))


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_workers_that_read_ahead_do_not_move_the_state(taken):
    """Two workers have asked for what comes next; a run that goes on without any repeats none of it."""
    whole = stream(shuffled(flip=True), 6)
    before, after = shuffled(flip=True, workers=2), shuffled(flip=True)
    head = stream(before, taken)
    assert before.state_dict() == {"epoch": taken // 2, "position": 8 * (taken % 2)}
    after.load_state_dict(before.state_dict())
    same(head + stream(after, 6 - taken), whole)
    again = shuffled(flip=True, workers=2)
    again.load_state_dict(before.state_dict())
    same(stream(again, 6 - taken), whole[taken:])


def test_an_abandoned_pass_leaves_no_batch_behind():
    """Workers stay for the next pass; what they had read for the abandoned one is dropped."""
    batches = shuffled(workers=2)
    first = stream(batches, 1)
    batches.load_state_dict({"epoch": 0, "position": 0})
    same(stream(batches, 3), stream(shuffled(), 3))
    same(first, stream(shuffled(), 1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_sees_each_example_once_and_never_mirrored(workers, world_size):
    shards = [list(OrderedBatches(IMAGES, 4, rank, world_size, workers)) for rank in range(world_size)]
    found = {i.item(): x for shard in shards for batch in shard for i, x in zip(batch.index, batch.x, strict=True)}
    assert sum(len(batch.x) for shard in shards for batch in shard) == len(found) == 22
    assert all(torch.equal(found[i], IMAGES.x[i]) for i in range(22))


@pytest.mark.parametrize("split", ["val", "test"])
def test_more_processes_than_examples_are_refused_before_training(split):
    data = part("data", "experiment=toy", "data.sizes={train: 300, val: 50, test: 60}", f"data.sizes.{split}=2")
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)
    data.setup("fit")
    data.trainer.world_size = 3
    for refused in (lambda: data.setup("fit"), lambda: OrderedBatches(data.splits()[split], 4, 0, 3)):
        with pytest.raises(InvalidInput, match="a split of 2 cannot be evaluated by 3 processes: use at most 2"):
            refused()


def workers_of(before=()):
    return {process for process in multiprocessing.active_children() if process not in before}


def test_workers_start_with_a_batch_and_end_with_the_batches():
    before = workers_of()
    batches = shuffled(workers=2)
    assert workers_of() == before
    stream(batches, 3)
    workers = workers_of(before)
    assert len(workers) == 2
    del batches
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


def test_workers_obey_only_their_parent():
    """Signals of others reach workers and the server that forks them; a handler of the parent is not theirs."""
    before = workers_of()
    earlier = signal.signal(signal.SIGUSR2, lambda *_: os._exit(1))
    try:
        batches = shuffled(workers=2)
        head = stream(batches, 2)
        workers = workers_of(before)
        server = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for name in ("USR2", "INT", "TERM"):
            subprocess.run(["kill", f"-{name}", *server, *(str(worker.pid) for worker in workers)], check=True)
        same(head + stream(batches, 5), stream(shuffled(), 7))
        same(stream(shuffled(workers=1), 1), head[:1])
        assert workers <= workers_of(before)
        for worker in workers:
            worker.terminate()
            worker.join(10)
            assert worker.exitcode == 0
    finally:
        signal.signal(signal.SIGUSR2, earlier)


def test_workers_read_a_file_that_is_gone(tmp_path):
    """They get the open file: no copy of it, and no second look at its name."""
    path = tmp_path / "train.x"
    path.write_bytes(IMAGES.x.numpy().tobytes())
    split = Split(StoredRows(path.open("rb"), IMAGES.x.shape), IMAGES.condition)
    path.unlink()
    same(stream(ShuffledBatches(split, 8, seed=3, workers=2), 4), stream(shuffled(), 4))


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed():
    program = """
import multiprocessing, signal
from test_batches import shuffled, stream

if __name__ == "__main__":
    batches = shuffled(workers=2)
    stream(batches, 1)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    signal.pause()
"""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        workers = [Path(f"/proc/{pid}") for pid in parent.stdout.readline().split()]
        assert [worker.exists() for worker in workers] == [True, True]
        parent.kill()
    for _ in range(30):
        if not any(worker.exists() for worker in workers):
            return
        time.sleep(1)
    pytest.fail(f"{workers} are left")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generators_are_left_alone(workers):
    before = torch.get_rng_state()
    stream(shuffled(flip=True, workers=workers), 5)
    list(OrderedBatches(IMAGES, 4, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_mirroring_is_a_function_of_seed_epoch_and_index():
    """Whatever the batch size and the process; half of the images, others in each epoch, in an order that stays."""
    big = Split(torch.arange(4000)[:, None, None, None] * 2 + torch.arange(2))

    def mirrored(batch_size, epoch, seed=0, **place):
        batches = ShuffledBatches(big, batch_size, seed, flip=True, **place)
        batches.load_state_dict({"epoch": epoch, "position": 0})
        return {i.item(): (x[0, 0, 0] > x[0, 0, 1]).item() for b in batches for i, x in zip(b.index, b.x, strict=True)}

    one = mirrored(100, epoch=4)
    assert one == mirrored(400, epoch=4) == mirrored(80, 4, rank=0, world_size=2) | mirrored(80, 4, rank=1, world_size=2)
    assert one != mirrored(100, epoch=5)
    assert one != mirrored(100, epoch=4, seed=1)
    assert abs(sum(one.values()) / 4000 - 0.5) < 4 * 0.5 / 4000**0.5
    plain = [batch.index for batch in ShuffledBatches(big, 100, 0)]
    assert all(torch.equal(a, b.index) for a, b in zip(plain, ShuffledBatches(big, 100, 0, flip=True), strict=True))


def test_a_flip_is_left_to_right_and_of_training_alone(tmp_path):
    overrides, (x, _) = small_cifar10(tmp_path)
    data = part("data", "data=cifar10", *overrides, "data.flip=true", "data.batch_size=20")
    kinds = set()
    for batch in data.train_dataloader():
        for i, image in zip(batch.index, batch.x, strict=True):
            kinds.add(next(k for k, v in {"as it is": x[i], "mirrored": x[i].flip(-1)}.items() if torch.equal(image, v)))
    assert kinds == {"as it is", "mirrored"}
    for name, first in (("val", 80), ("test", 100)):
        for batch in data.ordered(name):
            assert torch.equal(batch.x, x[first + batch.index])
    plain = part("data", "data=cifar10", *overrides)
    assert (plain.provenance()["flip"], data.provenance()["flip"]) == (False, True)
    assert (plain.title, data.title) == ("cifar10", "cifar10, trained with flips")


def test_batches_are_gathered_where_the_examples_are():
    """On the meta device, which has shapes and places but no values: no index crosses from the CPU in a step."""
    split = IMAGES.on(torch.device("meta"))
    for batches in (ShuffledBatches(split, 8, 0, flip=True), OrderedBatches(split, 8)):
        batch = next(iter(batches))
        assert {batch.x.device.type, batch.index.device.type, batch.condition.device.type} == {"meta"}
        assert batch.x.shape == (8, 3, 2, 2)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(InvalidInput, match=r"data.workers must be 0 .* got -1"):
        shuffled(workers=-1)
