"""What a command says before it imports anything heavy, and the spellings that it suggests."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "torchvision", "torchmetrics", "matplotlib", "wandb", "scipy", "numpy")

SAID = {
    "train --help": "groups (GROUP=OPTION)",
    "train --help schedule": "tabulated",
    "train --version": "vdm ",
    "train --cfg job": "max_steps: 2000",
    "train --colour": "unrecognized arguments: --colour",
    "train schedule=kosine": "schedule has no option 'kosine'; did you mean 'cosine'?",
    "train schedul=cosine": "did you mean 'schedule'?",
    "train +colour=red": "there is no setting 'colour'",
    "train optimizer.l=1": "did you mean 'optimizer.lr'?",
    "train lr=0.1": "here it is optimizer.lr=0.1",
    "train +lr=0.1": "here it is optimizer.lr=0.1",
    "train learning_rate=0.1": "the number is optimizer.lr=0.1",
    "train ckpt_path=a.ckpt": "resume=true",
    "train debug=default": "here it is trainer=debug",
    "train hparams_search=optuna": "here it is sweep=optuna",
    "train tags=[a]": "here it is +tags=[a]",
    "train max_epochs=3": "here it is trainer.max_steps=3",
    "train batch_size=3": "here it is data.batch_size=3",
    "train data.num_workers=3": "here it is data.workers=3",
    "train trainer.accumulate_grad_batches=4": "Lightning's Trainer: write +trainer.accumulate_grad_batches=4",
    "train model.schedule=cosine": "use schedule=cosine",
    "train model.denoiser.network=unet": "use network=unet",
    "train +experiment=mnist": "use experiment=mnist",
    "train hydra.launcher.gpus_per_node=a100:4": "+hydra.launcher.additional_parameters.gres=gpu:a100:4",
    "train hydra/launcher=slurm": "add -m",
    "train logger=neptune": "logger has no option 'neptune'",
    "train model.time.timesteps=9": "it is a setting of time=discrete",
    "evaluate": "ckpt is needed",
    "evaluate ckpt=runs/a/epoch=0-step=2.ckpt": "no checkpoint at runs/a/epoch=0-step=2.ckpt",
    "evaluate ckpt_path=a.ckpt": "here it is ckpt=a.ckpt",
    "sample ckpt=~/none.ckpt": "/none.ckpt",
    "sample num_samples=3": "here it is n=3",
    "export --help": "folder: ???",
    "dashboard --version": "vdm ",
    "dashboard sweep=none": "none holds no run",
}

SCRIPT = """
import contextlib, io, json, sys
from vdm.cli import entry
said = {}
for words in json.loads(sys.argv[1]):
    name, *arguments = words.split()
    sys.argv, text = [f"vdm-{name}", *arguments], io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), contextlib.suppress(SystemExit):
        getattr(entry, name)()
    said[words] = text.getvalue()
print(json.dumps([said, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def first_words(tmp_path_factory):
    """What each command said, and all modules imported by then."""
    command = [sys.executable, "-c", SCRIPT, json.dumps([*SAID])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path_factory.mktemp("home"), timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("words", SAID)
def test_first_word(words, first_words):
    assert SAID[words] in first_words[0][words]


def test_first_words_import_nothing_heavy(first_words):
    assert {name.partition(".")[0] for name in first_words[1]} & {*HEAVY} == set()
