"""Training tasks and Trainers, built without a command."""

import lightning.pytorch as pl

from support.catalogue import composed
from vdm.training.build import build
from vdm.training.checkpoint_io import AtomicCheckpointIO

SMALL = ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "optimizer.lr=1e-3", "data.batch_size=32")


def parts(*overrides):
    """Return the data and the task of a small run."""
    return build(composed(*SMALL, *overrides))


def trainer_for(folder, *callbacks, steps=6, **settings):
    """Return a CPU Trainer for ``steps`` steps with a validation every 3 steps, without logger."""
    return pl.Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=settings.pop("logger", False),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=settings.pop("enable_checkpointing", False),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        val_check_interval=settings.pop("val_check_interval", 3),
        check_val_every_n_epoch=None,
        **settings,
    )


def weights(task):
    """Return a copy of the task's state."""
    return {name: value.clone() for name, value in task.state_dict().items()}
