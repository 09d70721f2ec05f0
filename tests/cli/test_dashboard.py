"""vdm-dashboard: bad arguments, damaged folders and the sections of a workspace."""

import sys

import pytest

from vdm.cli import dashboard
from vdm.reports import wandb_workspace


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sweep=FOLDER"),
        (["sweep"], "has no value"),
        (["sweep=["], "[ holds no run"),
        (["swep={0}"], "did you mean 'sweep'"),
        (["sweep={0}"], "logger=wandb"),
    ],
)
def test_dashboard_refuses_bad_arguments_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "0/.hydra").mkdir(parents=True)
    (tmp_path / "0/.hydra/overrides.yaml").write_text("[]")
    monkeypatch.setattr(sys, "argv", ["vdm-dashboard", *(word.format(tmp_path) for word in arguments)])
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"), [("0/config.yaml", "a: [1"), ("0/config.yaml", "logger: 5"), ("multirun.yaml", "hydra: [1]")]
)
def test_dashboard_refuses_a_damaged_folder_in_one_line(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.setattr(dashboard, "why_offline", lambda patience: "not asked")
    (tmp_path / "0/.hydra").mkdir(parents=True)
    (tmp_path / "0/.hydra/overrides.yaml").write_text("[]")
    (tmp_path / name).write_text(content)
    monkeypatch.setattr(sys, "argv", ["vdm-dashboard", f"sweep={tmp_path}"])
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be read (" in line


def test_by_section_takes_the_first_matching_pattern():
    """Scores are no bound terms, and unknown names go to the last section."""
    names = ["val/fid_inception", "val/layer_2", "val/bits_per_dim", "profile/one_t_variance", "throughput/x", "else"]
    titles = ["Scores of samples", "Other terms", "Bound, by term", "Over noise levels", "Throughput", "Training"]
    assert wandb_workspace.by_section(names) == dict(sorted(zip(titles, ([name] for name in names), strict=True), key=order))


def order(item):
    return list(wandb_workspace.SECTIONS).index(item[0])
