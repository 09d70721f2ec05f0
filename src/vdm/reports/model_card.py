"""The card of a model on the Hugging Face Hub: its numbers with their errors, its data, and how to load it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdm.estimate import Estimate
from vdm.runs.exported import Description
from vdm.runs.folder import RunFolder, read_estimate
from vdm.runs.provenance import fingerprints
from vdm.runs.reading import reading
from vdm.terms import TERM_LABELS, TERMS

HEAD = """---
library_name: vdm
tags: [diffusion, variational-diffusion-model, likelihood]
---

"""

LOADING = """## Loading

```python
import vdm  # with huggingface_hub

model = vdm.load("{repository}")
result = vdm.evaluate(model, x)  # x: {kind} of shape (N, {shape}); the bound by term, with error bars
samples = vdm.sample(model, 16, ({shape},))
```
"""


def model_card(repository: str, description: Description, metrics: Mapping[str, Any] | None) -> str:
    """Return the card in Markdown.

    Args:
        metrics: the content of the run's metrics.json, if the model is the one that it evaluated.
    """
    kind = f"integer levels 0 … {description.levels - 1}" if description.levels else "real numbers"
    shape = ", ".join(map(str, description.event_shape))
    parts = [
        f"# {repository.partition('/')[2]}",
        f"A {_class(description.model)} of the package vdm, {description.weights} weights of step "
        f"{description.provenance.get('step', 'unknown')}; examples have shape ({shape}) and are {kind}.",
        _numbers(metrics),
        _data(description.provenance),
        LOADING.format(repository=repository, kind=kind, shape=shape),
    ]
    return HEAD + "\n\n".join(part.rstrip() for part in parts) + "\n"


def run_metrics(checkpoint: Path, weights: str) -> dict[str, Any] | None:
    """Return the metrics.json of a checkpoint's run, None unless its test is of this checkpoint and these weights."""
    path = RunFolder(checkpoint.parent.parent).metrics
    if checkpoint.parent.name != "checkpoints" or not path.exists():
        return None
    with reading(path):
        metrics: dict[str, Any] = json.loads(path.read_text())
        about = metrics["provenance"]
        return metrics if (about["checkpoint"], about["weights"]) == (checkpoint.name, weights) else None


def _class(model: Mapping[str, Any]) -> str:
    return str(model.get("_target_", "model")).rpartition(".")[2]


def _numbers(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "## Likelihood\n\nNot evaluated in the folder that it was exported from: `vdm.evaluate` gives it."
    about, test = metrics["provenance"], {name: read_estimate(metrics["test"][name]) for name in TERMS}
    lines = [f"| {TERM_LABELS[name]} | {_cells(estimate)} |" for name, estimate in test.items()]
    warnings = [f"- {sentence}" for sentence in metrics.get("warnings", [])]
    return "\n".join(
        [
            "## Likelihood",
            "",
            f"Upper bound on −log₂ p(x) of the whole test set, {about['repeats']} replicates, seed {about['draws_seed']}:",
            "",
            "| term | bits/dim | error over the draws | error over the examples | 95 % over the draws |",
            "| --- | --- | --- | --- | --- |",
            *lines,
            *(["", "Warnings:", "", *warnings] if warnings else []),
        ]
    )


def _cells(estimate: Estimate) -> str:
    return " | ".join([*estimate.shown(), estimate.shown_interval()])


def _data(provenance: Mapping[str, Any]) -> str:
    about = provenance.get("data")
    name = about.get("name", "unknown") if isinstance(about, Mapping) else "unknown"
    lines = [f"- {split}: SHA-256 `{sha256}`" for split, sha256 in fingerprints(about).items()]
    code = f"vdm {provenance.get('vdm', 'unknown')}, training seed {provenance.get('seed', 'unknown')}"
    return "\n".join(["## Data and code", "", f"{name}; {code}.", *(["", *lines] if lines else [])])
