"""Metrics and images as TensorBoard event files."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from vdm.runs.files import write_atomically
from vdm.training.loggers.base import ImageLogger, LocalLogger, RunLogger


class TensorBoardLogger(LocalLogger, ImageLogger, RunLogger):
    """Log metrics, under the names of ``metrics.csv``, and images. They are on disk when the call returns.

    A resumed run first truncates the earlier event files to the step that it resumes after.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """Torch's summary writer; the first access creates the event file."""
        if self._writer is None:
            truncate_events_after(self.folder, self.identity.last_valid_step)
            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)
        self.experiment.flush()

    @rank_zero_only
    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        self.experiment.add_image(name, np.array(image), step, dataformats="HWC")
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close()


def truncate_events_after(folder: Path, step: int) -> None:
    """Remove the events that a run resumed after ``step`` will log again: later steps, and the test results."""
    for path in folder.glob("events.*"):
        content = io.BytesIO()
        for event in RawEventFileLoader(str(path)).Load():
            if _survives(Event.FromString(event), step):
                RecordWriter(content).write(event)
        write_atomically(path, content.getvalue())


def _survives(event: Event, step: int) -> bool:
    tags = [value.tag for value in event.summary.value]
    return not tags or (event.step <= step and not any(tag.startswith("test/") for tag in tags))
