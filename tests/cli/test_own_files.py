"""What stands in a run's folder and cannot be this run's is noticed."""

import json
import shutil

import pytest
import torch

from support.training_runs import vdm_train
from vdm.runs.sweeps import read_run

TWO = ("trainer.max_steps=2", "trainer.val_check_interval=2", "callbacks.sample_grid.n=4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    assert vdm_train(folder, *TWO) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def edit_number(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["bits_per_dim"]["value"] -= 1
    (folder / "metrics.json").write_text(json.dumps(metrics))


def edit_curve(folder):
    (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text() + "3,1.0\n")


def test_untouched_result_is_returned_without_a_warning(folder, capsys):
    assert not [sentence for sentence in read_run(folder).warnings if "metrics." in sentence]
    assert vdm_train(folder, *TWO, "resume=true") == 0
    assert "is finished: test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (edit_number, "metrics.json was changed after the run wrote it"),
        (edit_curve, "metrics.csv is not the curve of this result"),
        (lambda folder: (folder / "metrics.csv").unlink(), "metrics.csv is not the curve of this result"),
    ],
)
def test_edited_result_is_noticed_in_reports(edit, sentence, folder):
    edit(folder)
    assert sentence in read_run(folder).warnings


def test_edited_result_is_not_returned(folder, capsys):
    edit_number(folder)
    assert vdm_train(folder, *TWO, "resume=true") == 2
    assert "metrics.json was changed after the run wrote it" in capsys.readouterr().err.splitlines()[-1]


def of_another_run(content):
    content["vdm"]["run_id"] = "0123456789ab"


def of_another_model(content):
    del content["vdm"]["run_id"]
    state = content["state_dict"]
    name = next(name for name, value in state.items() if value.ndim == 4)
    state[name] = torch.cat([state[name]] * 2)


def of_another_precision(content):
    content["state_dict"] = {name: value.bfloat16() for name, value in content["state_dict"].items()}


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_run, "was written by another run (0123456789ab, not"),
        (of_another_model, "is of another model: it holds"),
        (of_another_precision, "is bfloat16, and training wrote"),
    ],
)
def test_checkpoint_that_is_not_the_runs_own_is_refused(name, change, message, folder, capsys):
    path = folder / f"checkpoints/{name}.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    (folder / "metrics.json").unlink()
    assert vdm_train(folder, *TWO, "resume=true") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert f"{name}.ckpt" in line


def test_control_characters_of_a_run_folder_are_not_shown(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["provenance"] |= {"\x1b[31mname": "\x1b]0;title\x07"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "overrides.yaml").write_text('- "a\\e[31m=1\\e[0m"\n')
    header, *rows = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join([header.strip() + ",\x1b[31mmine\n", *rows]))
    assert "\x1b" not in str(read_run(folder))
