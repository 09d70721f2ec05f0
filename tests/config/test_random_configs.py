"""Random configs: valid ones train and evaluate, all others are refused in one line."""

import copy
import math
import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from support.catalogue import composed, options
from vdm.config.composed import to_plain
from vdm.config.instantiate import PARTIAL, TARGET, calls
from vdm.draws import Draws, ExampleDraws
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.terms import TERMS
from vdm.training.build import PARTS, build
from vdm.training.task import parameter_groups

EXAMPLES = int(os.environ.get("VDM_EXAMPLES", "25"))
"""Examples of each property; ``make soak`` sets more, which differ each time."""
AT_RANDOM = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES == 25,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)

GROUPS = (
    "schedule",
    "encoder",
    "auxiliary",
    "parameterisation",
    "likelihood",
    "time",
    "times",
    "objective",
    "sampler",
    "spacing",
)
TINY = {"unet": {"channels": 8, "blocks": 1}, "vdm_unet": {"channels": 8, "blocks": 1}, "mlp": {"hidden": 8, "blocks": 1}}
POINTS = {"experiment": "toy", "data.sizes": "{train: 100, val: 20, test: 20}"}
NARROW = {"digits": ("mlp", *TINY), "toy": ("mlp",)}


@st.composite
def overrides(draw):
    """Overrides for a small model of any kind with any parts, which may contradict each other."""
    data = draw(st.sampled_from(["digits", "toy"]))
    chosen = dict(POINTS) if data == "toy" else {"experiment": "digits"}
    diffusion = ("vdm", "4_tied")
    free = sorted({*options("model"), *options("rung")} - set(diffusion))
    model = draw(st.sampled_from(["vdm", *diffusion, *free]))
    chosen["model" if model in options("model") else "rung"] = model
    if data == "toy" and model in free:
        chosen.pop("rung", None)
        chosen["experiment"], chosen["model"] = "toy_hvae", draw(st.sampled_from(["hvae", "hvae_top_down", "mhvae"]))
    low, high = draw(st.floats(-13, -1)), draw(st.floats(0, 8))
    chosen["seed"] = draw(st.integers(0, 1000))
    chosen["data.batch_size"] = draw(st.integers(1, 64))
    chosen["ema_decay"] = draw(st.floats(0, 0.999))
    chosen["optimizer.lr"] = draw(st.floats(1e-5, 1e-2))
    chosen["learning_rate"] = draw(st.sampled_from(options("learning_rate")))
    if model in diffusion:
        for group in GROUPS:
            if draw(st.booleans()):
                chosen[group] = draw(st.sampled_from(options(group)))
        chosen["gamma_min"], chosen["gamma_max"] = low, high
        network = chosen["network"] = draw(st.sampled_from(NARROW[data]))
        chosen |= {f"model.denoiser.network.{name}": value for name, value in TINY[network].items()}
        chosen["model.sampling.steps"] = 3
        if model == "4_tied":
            chosen.pop("time", None)
        if chosen.get("time") == "discrete":
            chosen["model.time.timesteps"] = draw(st.integers(2, 50))
    elif data == "digits" and model in ("hvae", "hvae_top_down", "mhvae"):
        chosen["latents"] = draw(st.sampled_from([name for name in options("latents") if name != "mlp"]))
    return [f"{name}={value}" for name, value in chosen.items()]


def outcome(tree):
    """Return the evaluated terms after two training steps, without a Trainer; two samples are drawn, too."""
    data, task = build(tree)
    optimizer = task.optimizer(parameter_groups(task.model))
    for step, batch in zip(range(2), data.train_dataloader(), strict=False):
        draws = Draws(task.seed, step)
        draws.seed_torch()
        loss = task.model.train().loss(batch, draws).value.mean()
        if not torch.isfinite(loss):
            raise InvalidInput("the training loss is not finite")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.averaged.update(task.model, step)
    batch = next(iter(data.ordered("test")))
    few = type(batch)(*(None if part is None else part[:8] for part in batch))
    terms = BoundEvaluation(2, seed=1)(task.evaluated, few)
    sample = task.evaluated.sample(2, data.event_shape, draws=ExampleDraws(torch.arange(2), 0))
    assert sample.shape == (2, *data.event_shape)
    assert torch.isfinite(sample.float()).all()
    return dict(zip(TERMS, terms.mean((1, 2)).tolist(), strict=False))


def in_one_line(error):
    assert str(error), "an empty message"
    assert "\n" not in str(error), str(error)
    assert len(str(error)) < 400, str(error)


@pytest.mark.slow
@AT_RANDOM
@given(overrides())
def test_random_configs_train_or_are_refused_in_one_line(chosen):
    note(" ".join(chosen))
    tree = None
    try:
        tree = to_plain(composed(*chosen))
        terms = outcome(tree)
    except InvalidInput as error:
        note(str(error))
        in_one_line(error)
        return
    assert all(math.isfinite(value) for value in terms.values()), terms


def numbers(tree):
    """Return (node, key, place) of every number among the arguments of calls."""
    found = [(node, key, f"{place}.{key}") for place, node in calls(tree) for key in node]
    return [entry for entry in found if isinstance(entry[0][entry[1]], int | float) and entry[1] != PARTIAL]


def built_parts(tree):
    return {name: tree[name] for name in PARTS}


@st.composite
def spoilt(draw):
    """A config with one error that shows without any call, the kind of error and its place."""
    tree = copy.deepcopy(to_plain(composed(*draw(overrides()))))
    kind = draw(st.sampled_from(["text for a number", "a list for a number", "true for a number", "unknown", "misspelt"]))
    if kind in ("unknown", "misspelt"):
        place, node = draw(st.sampled_from(calls(built_parts(tree))))
        if kind == "unknown":
            node["colour"] = "red"
        else:
            name = node[TARGET]
            cut = draw(st.integers(0, len(name) - 1))
            node[TARGET] = name[:cut] + "q" + name[cut:]
    else:
        node, key, place = draw(st.sampled_from(numbers(built_parts(tree))))
        node[key] = {"text": "abc", "a list": [[node[key]]], "true": True}[kind.split(" for")[0]]
        if isinstance(node[key], bool) and key in SWITCHES:
            node[key] = "abc"
    return tree, kind, place


SWITCHES = ("labels", "download", "attention_everywhere", "autocast", "flip", "zero_mean")


@AT_RANDOM
@given(spoilt())
def test_spoilt_configs_are_refused_with_the_place(example):
    tree, kind, place = example
    note(f"{kind} at {place}")
    with pytest.raises(InvalidInput) as caught:
        build(tree)
    in_one_line(caught.value)
    assert place in str(caught.value), str(caught.value)


@pytest.mark.slow
@AT_RANDOM
@given(overrides(), st.data())
def test_strange_numbers_are_refused_or_give_finite_terms(chosen, data):
    """No number in any place of a config leads to a traceback."""
    tree = copy.deepcopy(to_plain(composed(*chosen)))
    node, key, place = data.draw(st.sampled_from(numbers(built_parts(tree))))
    whole = isinstance(node[key], int)
    strange = [-1, 0, 1, -7] if whole else [-1.0, 0.0, 1.0, -1e30, 1e30, math.nan, math.inf, -math.inf, 1e-30]
    node[key] = data.draw(st.sampled_from(strange))
    note(f"{place} = {node[key]}; {' '.join(chosen)}")
    try:
        terms = outcome(tree)
    except InvalidInput as error:
        in_one_line(error)
        return
    assert all(math.isfinite(value) for value in terms.values()), terms
