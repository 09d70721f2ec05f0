"""A callback that slows down a job so that a test has time to stop it."""

import faulthandler
import time

from lightning.pytorch.callbacks import Callback

from vdm.training.slurm import requeued


class Pauses(Callback):
    """Sleep ``seconds`` before each step, unless SLURM has requeued the job.

    All threads print their stacks after 200 seconds, when the job should have ended.
    """

    def __init__(self, seconds):
        faulthandler.dump_traceback_later(200)
        self.seconds = 0 if requeued() else seconds

    def on_train_batch_start(self, *_):
        time.sleep(self.seconds)
