"""BestCheckpoint: its state after a resume, also in another folder."""

import pytest
import torch

from vdm.training.callbacks.checkpoint import BestCheckpoint


def best_of(folder, *files, score=1.5):
    """Return a BestCheckpoint of a run in ``folder`` with ``files`` as its best ones."""
    best = BestCheckpoint(dirpath=folder, filename="best", monitor="val/bits_per_dim")
    best.best_model_score = best.kth_value = torch.tensor(score)
    best.best_model_path = best.kth_best_model_path = str(files[0])
    best.best_k_models = {str(file): torch.tensor(score) for file in files}
    return best


def test_best_checkpoint_survives_a_moved_folder(tmp_path):
    old, new = best_of(tmp_path / "old", tmp_path / "old/best.ckpt"), best_of(tmp_path / "new", "", score=9.0)
    new.load_state_dict(old.state_dict())
    path = str(tmp_path / "new/best.ckpt")
    assert (new.best_model_path, new.kth_best_model_path, new.best_k_models) == (path, path, {path: torch.tensor(1.5)})
    assert new.best_model_score == new.kth_value == 1.5


def test_best_checkpoint_state_key_is_metric_and_mode():
    def key(**settings):
        return BestCheckpoint(**{"monitor": "val/bits_per_dim", "mode": "min"} | settings).state_key

    assert key() == key(every_n_train_steps=7) == key(save_top_k=3)
    assert len({key(), key(monitor="val/reconstruction"), key(mode="max")}) == 3


@pytest.mark.parametrize(
    "pattern", ["{0}/mine.ckpt", "{0}/new/../mine.ckpt", "{0}/new/..", "{0}", "s3://bucket/mine.ckpt", ".."]
)
def test_best_checkpoint_restores_no_path_outside_dirpath(tmp_path, pattern):
    file = pattern.format(tmp_path)
    new = best_of(tmp_path / "new", "")
    new.load_state_dict(best_of(tmp_path / "new", file).state_dict())
    for path in (new.best_model_path, new.kth_best_model_path, *new.best_k_models):
        assert path in ("", str(tmp_path / "new/mine.ckpt"))
