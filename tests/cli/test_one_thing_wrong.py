"""One thing wrong in a command line or a file, drawn from a grammar: one line, status 2, before any training.

The first three draws of each kind are among the fast tests; 17 of each make 204. ``VDM_EXAMPLES`` asks for more.
"""

import os
import random
import string
import sys
import zipfile

import pytest
import torch
from omegaconf import OmegaConf

from support.catalogue import composed
from support.commands import invoke
from support.exports import MODELS, exported
from vdm.cli import evaluate, export, report, sample, train
from vdm.config.groups import groups
from vdm.config.hints import below

FAST, EXAMPLES = 3, int(os.environ.get("VDM_EXAMPLES", "17"))
NUMBERED = [number if number < FAST else pytest.param(number, marks=pytest.mark.slow) for number in range(EXAMPLES)]
SMALL = ("trainer.accelerator=cpu", "model.denoiser.network.channels=8", "model.denoiser.network.blocks=1")

GROUPS = ("data", "model", "schedule", "parameterisation", "time", "sampler", "objective", "trainer", "experiment", "logger")
PATHS = """
seed data.batch_size data.eval_batch_size data.workers trainer.max_steps trainer.val_check_interval test.repeats
validation.repeats optimizer.lr ema_decay model.denoiser.network.channels model.denoiser.network.blocks
model.sampling.steps gamma_min gamma_max levels callbacks.last.every callbacks.sample_grid.n learning_rate.warmup
trainer.gradient_clip_val callbacks.bound_terms.every callbacks.throughput.every
""".split()  # noqa: SIM905
NUMBERS = ("-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "10000000000000000000000", "1e-400")
OTHERS = ("word", "[1,2]", "{a:1}", "null", "true", "'1'", "''", "[]", "{}", "???", "${seed}x")
BROKEN = ("[1,2", "{a:", "'open", "a]b", "${nowhere}", "${oc.env:NOWHERE}", "${now}", "a,,b", "${", "$(", "=", "\\")


def misspelt(word, draw):
    """Return ``word`` with one letter left out, doubled, exchanged or replaced."""
    at = draw.randrange(len(word))
    other = draw.choice(string.ascii_lowercase)
    return draw.choice([word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word[:at] + other + word[at + 1 :]])


def wrong_name(draw):
    path = draw.choice(PATHS).split(".")
    at = draw.randrange(len(path))
    changed = misspelt(path[at], draw)
    path[at] = f"{changed}q" if changed == path[at] or not changed else changed
    return [f"{'.'.join(path)}=1"]


def wrong_option(draw):
    return [f"{draw.choice(GROUPS)}={misspelt(draw.choice(('digits', 'linear', 'cosine', 'default')), draw)}q"]


def wrong_type(draw):
    return [f"{draw.choice(PATHS)}={draw.choice(('word', '[1,2]', '{a:1}', 'true', '???'))}"]


def wrong_syntax(draw):
    path, value = draw.choice(PATHS), draw.choice(BROKEN)
    return [
        draw.choice(
            [f"{path}={value}", f"{path}", f"={value}", f"{path}=={value}", f"~{path}q", f"++={value}", f"+{path}=1"]
        )
    ]


def wrong_target(draw):
    place = draw.choice(("optimizer", "learning_rate", "test", "model", "data.source", "callbacks.last", "trainer"))
    named = draw.choice(
        ("vdm", "nowhere.Class", "vdm.models.Nothing", "os", "vdm.models", "math.pi", "1", "[]", "a..b", ".x")
    )
    return [f"{place}._target_={named}"]


def odd_value(draw):
    """Perhaps harmless: it is refused, or training would begin."""
    return [f"{draw.choice(PATHS)}={draw.choice(NUMBERS + OTHERS)}"]


LINES = (wrong_name, wrong_option, wrong_type, wrong_syntax, wrong_target, odd_value)


class Begins(BaseException):
    """Raised in the place of training."""


def told(module, arguments, capsys):
    """Run a command in this process; return its status, or None if it would have trained, and what it said."""
    capsys.readouterr()
    try:
        status = invoke(module, *arguments)
    except Begins:
        status = None
    return status, capsys.readouterr().err.strip().splitlines()


def check(status, lines, arguments):
    assert status == 2, (arguments, status, lines)
    assert len([line for line in lines if line.startswith("vdm-")]) == 1, (arguments, lines)
    assert "Traceback" not in "".join(lines), (arguments, lines)
    assert all(letter.isprintable() or letter == "\t" for letter in "".join(lines)), (arguments, lines)


@pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", NUMBERED)
def test_one_wrong_word_is_refused_in_one_line(kind, number, tmp_path, monkeypatch, capsys):
    def begin(*_):
        raise Begins

    monkeypatch.setattr(train, "_fit_and_test", begin)
    words = kind(random.Random(f"{kind.__name__} {number}"))
    status, lines = told(train, [*SMALL, f"hydra.run.dir={tmp_path}/run", *words], capsys)
    if kind is odd_value and status is None:
        return
    check(status, lines, words)
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path, _ = exported(tmp_path_factory.mktemp("whole"), MODELS["vdm"][1])
    return path


def flipped(content, draw, path):
    at = draw.randrange(len(content))
    path.write_bytes(content[:at] + bytes([content[at] ^ draw.randrange(1, 256)]) + content[at + 1 :])


def cut(content, draw, path):
    path.write_bytes(content[: draw.randrange(len(content))])


def noise(content, draw, path):
    path.write_bytes(draw.randbytes(draw.choice((0, 1, 100, 10_000))))


def other_zip(content, draw, path):
    with zipfile.ZipFile(path, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number in range(draw.randrange(5)):
            archive.writestr(draw.choice((f"x/{number}", "x/data.pkl", "../up", "x/version")), draw.randbytes(1000))


def other_content(content, draw, path):
    """One entry of the checkpoint or of its config is another plain value."""
    tree = torch.load(whole_of(path), weights_only=True)
    nodes = [tree, tree["vdm"], tree["vdm"]["config"], tree["vdm"]["config"]["model"], tree["vdm"]["config"]["data"]]
    node = draw.choice(nodes)
    key = draw.choice(
        [key for key in node if key not in ("trainer", "callbacks", "optimizer", "learning_rate", "output_dir")]
    )
    node[key] = draw.choice((None, "x", -1, [], {}, [[]] * 3, {"_target_": "os.system"}, "\x1b[31m", {1: 2}, float("nan")))
    torch.save(tree, path)


def whole_of(path):
    return path.with_name("whole.ckpt")


FILES = (flipped, cut, noise, other_zip, other_content)


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", NUMBERED)
def test_one_wrong_checkpoint_is_refused_in_one_line(kind, number, whole, tmp_path, monkeypatch, capsys):
    """A changed entry may be harmless, such as a provenance of another kind; a flipped bit outside the entries too."""
    draw, path = random.Random(f"{kind.__name__} {number}"), tmp_path / "x.ckpt"
    whole_of(path).write_bytes(whole.read_bytes())
    kind(whole.read_bytes(), draw, path)
    command = draw.choice((export, sample, evaluate))
    place = [f"folder={tmp_path}/model"] if command is export else [f"hydra.run.dir={tmp_path}/out"]
    few = {export: [], sample: ["n=1", "steps=1"], evaluate: ["repeats=2"]}[command]
    status, lines = told(command, [f"ckpt={path}", *place, *few], capsys)
    if status == 0 and kind in (flipped, other_content):
        return
    check(status, lines, (command.__name__, kind.__name__, number))


TEXTS = (
    "",
    "[",
    "{}",
    "[]",
    "null",
    "\x1b[31m",
    "a: b: c",
    "- x\n y",
    "&a [*a]",
    "1",
    "\xff",
    "{" * 500,
    "step,x\n1,\n2",
    '"',
    "NaN",
)


@pytest.mark.parametrize("number", NUMBERED)
def test_one_wrong_file_of_a_run_folder_is_told(number, tmp_path, capsys):
    """A report is refused in one line, or shows the folder with what can be read; it never fails otherwise."""
    draw = random.Random(f"folder {number}")
    files = (
        "config.yaml",
        "overrides.yaml",
        "metrics.json",
        "metrics.csv",
        "profile.csv",
        "schedule.csv",
        "failure.txt",
        "run_id",
    )
    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 3}")
    (tmp_path / draw.choice(files)).write_text(draw.choice(TEXTS))
    status, lines = told(report, [f"run={tmp_path}"], capsys)
    if status != 0:
        check(status, lines, ("report", number))


def test_paths_of_the_grammar_exist():
    """Otherwise a wrong value would be refused for its name."""
    known = {*below(OmegaConf.to_container(composed(), resolve=False)), *(group.name for group in groups("train"))}
    assert [path for path in PATHS if path not in known] == []
    assert sys.modules["vdm.cli.train"] is train
