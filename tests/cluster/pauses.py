"""A slower first start, so that there is time to stop it."""

import time

from lightning.pytorch.callbacks import Callback

from vdm.training.resuming import requeued


class Pauses(Callback):
    """``seconds`` before each step; none where the job has been started before."""

    def __init__(self, seconds):
        self.seconds = 0 if requeued() else seconds

    def on_train_batch_start(self, *_):
        time.sleep(self.seconds)
