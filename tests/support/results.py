"""Stored results, with values that a test chooses."""

import json

import numpy as np

from vdm.runs.examples import Examples, description, write_examples
from vdm.terms import TERMS

N, REPEATS = 40, 10


def bits(seed, shift=0.0, n=N, repeats=REPEATS, noise=0.1):
    """Bits/dim (n, R): what examples and draws have in common, large, and an own part."""
    common = np.random.default_rng(0).standard_normal((n, repeats))
    return 3 + shift + common + noise * np.random.default_rng(seed).standard_normal((n, repeats))


def examples(total, gamma=None, seed=1, draws=2, estimates=None, **data):
    """The content of examples.npz: a third of the total is each term."""
    split = {"size": len(total), "sha256": data.pop("sha256", "abc")}
    source = {"name": "digits", "release": "one", "splits": {"test": split}, **data}
    keys = {"seed": draws, "repeats": total.shape[1]} | dict.fromkeys(estimates or {}, 5)
    about = description(source, "test", 64, 17, seed, keys)
    terms = {name: total / (1 if name == "bits_per_dim" else 3) for name in TERMS}
    return Examples(about, np.arange(len(total)), terms, gamma, estimates or {})


def store(folder, content, overrides=None, with_examples=True):
    """Write the files of a result; with ``overrides``, those of a training run."""
    folder.mkdir(parents=True)
    about = content.about
    split = {"size": about["data"]["size"], "sha256": about["data"]["sha256"]}
    data = {"name": about["data"]["name"], "release": about["data"]["release"], "splits": {"test": split}, "flip": False}
    test = {name: estimate(values) for name, values in content.terms.items()}
    facts = {"data": data, "seed": about["seed"], "vdm": "0", "split": "test"}
    (folder / "metrics.json").write_text(json.dumps({"test": test, "provenance": facts}))
    if with_examples:
        write_examples(folder / "examples.npz", content)
    if overrides is not None:
        (folder / ".hydra").mkdir()
        lines = "".join(f"- {line}\n" for line in overrides)
        (folder / "overrides.yaml").write_text(lines)
        (folder / ".hydra/overrides.yaml").write_text(lines)
        (folder / "config.yaml").write_text("trainer:\n  max_steps: 4\n")
        (folder / "run_id").write_text("id")
    return folder


def estimate(values):
    means = values.mean(1)
    mc_se = values.mean(0).std(ddof=1) / values.shape[1] ** 0.5
    return {"value": means.mean(), "mc_se": mc_se, "data_se": means.std(ddof=1) / len(means) ** 0.5}
