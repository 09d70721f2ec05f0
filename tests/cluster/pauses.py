"""A slower first start, so that there is time to stop it."""

import faulthandler
import time

from lightning.pytorch.callbacks import Callback

from vdm.training.slurm import requeued


class Pauses(Callback):
    """``seconds`` before each step; none where the job has been started before.

    After some minutes, by which a job is over or hangs, its processes print where all their threads are.
    """

    def __init__(self, seconds):
        faulthandler.dump_traceback_later(200)
        self.seconds = 0 if requeued() else seconds

    def on_train_batch_start(self, *_):
        time.sleep(self.seconds)
