"""What README and docs say to type can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from support.catalogue import composed
from support.exports import MODELS, exported

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs/README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIG_OF = {
    "vdm-train": "train",
    "vdm-evaluate": "evaluate",
    "vdm-sample": "sample",
    "vdm-variance_study": "variance_study",
}
CONFIG_OF |= {"vdm-lineage": "lineage", "vdm-export": "export", "vdm-compress": "compress", "vdm-decompress": "decompress"}
REPORTS = {"estimators": "variance_study", "lineage": "lineage"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def commands():
    """Every command line in a ```sh block or between backticks, with where it stands."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`((?:vdm-[a-z]+|make) [^`]+)`", text)
        for line in lines:
            line = line.split(" #")[0].strip()
            if line and not line.startswith("#"):
                yield pytest.param(line, id=f"{page.name}: {line}")


def first_of_each_sweep(overrides):
    """``schedule=linear,cosine seed=1,2`` as the single jobs (linear, 1) and (cosine, 2)."""
    pairs = [override.split("=", 1) for override in overrides]
    split = [(name, [value] if set(value) & set("[{") else value.split(",")) for name, value in pairs]
    for i in range(max((len(values) for _, values in split), default=1)):
        yield [f"{name}={values[i % len(values)]}" for name, values in split]


@pytest.mark.parametrize("line", list(commands()))
def test_command_line_of_docs_composes(line):
    """Targets exist, and each override composes."""
    program, *words = [word for word in shlex.split(line.replace("…", "x")) if word != "-m"]
    program = Path(program).name
    if program == "make":
        assert words[0] in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
        if words[0] != "train":
            return
        program, words = "vdm-train", shlex.split(" ".join(word[5:] for word in words if word.startswith("ARGS=")))
    if program == "vdm-report" and words[0] in REPORTS:
        program, words = f"vdm-{REPORTS[words[0]]}", words[1:]
    if "--config-dir" in words:  # a yaml of the reader's own
        return
    if program == "python":
        assert (ROOT / words[0]).is_file()
        return
    if program in CONFIG_OF:
        mine = [word for word in words if not word.startswith(("hydra.", "hydra/", "--", "schedule=linear_sigma"))]
        for overrides in first_of_each_sweep(mine):
            composed(*overrides, config=CONFIG_OF[program])
    else:
        assert program in (
            "vdm-report",
            "vdm-dashboard",
            "vdm-import",
            "pip",
            "git",
            "cd",
            "conda",
            "tensorboard",
            "wandb",
            "pre-commit",
        )


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_of_docs_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if 'from_pretrained("model")' in page.read_text():
        exported(tmp_path, MODELS["vdm"][1])
    names: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    if "LinearSigmaSchedule" in names:
        schedule = names["LinearSigmaSchedule"](-8.0, 5.0)
        t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(schedule(t).sum(), t)
        assert torch.allclose(schedule.rate(t), slope)
        assert torch.allclose(schedule(t)[[0, -1]], torch.tensor([-8.0, 5.0], dtype=torch.float64))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
