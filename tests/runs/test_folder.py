"""Run folders: damaged files, locks and unfinished runs."""

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from vdm.errors import InvalidInput
from vdm.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- a"),
        ("metrics.json", "{"),
        ("metrics.json", "{}"),
        ("metrics.json", "[]"),
        ("metrics.json", f'{{"test": {{"bits_per_dim": {{"value": 1{400 * "0"}, "mc_se": 1, "data_se": 1}}}}}}'),
        ("config.yaml", "a: '${b'"),
    ],
)
def test_run_folder_refuses_damaged_files_in_one_line(tmp_path, name, content):
    folder = RunFolder(tmp_path)
    (tmp_path / name).write_text(content)
    read = folder.result if name == "metrics.json" else lambda: folder.check(OmegaConf.create({"a": 1}), resume=True)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be read \(\w+: .*choose another hydra.run.dir=") as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
def test_run_folder_refuses_a_pipe_without_waiting(tmp_path, name):
    folder = RunFolder(tmp_path)
    os.mkfifo(tmp_path / name)
    read = folder.result if name == "metrics.json" else lambda: folder.check(OmegaConf.create({"a": 1}), resume=True)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be read \(OSError: no regular file\)"):
        read()


def test_run_folder_is_locked_by_one_process(tmp_path, monkeypatch):
    """A second process is refused until the first one ends."""
    monkeypatch.setattr("vdm.runs.folder.LOCK_TIMEOUT_S", 0)
    hold = f"import filelock, time; lock = filelock.FileLock('{tmp_path}/.lock'); lock.acquire(); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(99)"], stdout=subprocess.PIPE) as other:
        assert other.stdout.read(1) == b"1"
        with pytest.raises(InvalidInput, match="in use by another process"), RunFolder(tmp_path).locked():
            pass
        other.kill()
    with RunFolder(tmp_path).locked():
        pass


def test_run_folder_refuses_to_restart_an_unfinished_run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    folder.last.touch()
    with pytest.raises(InvalidInput, match="add resume=true"):
        folder.check({}, resume=False)
