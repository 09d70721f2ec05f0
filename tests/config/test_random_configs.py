"""Configs at random: valid ones train and evaluate, spoilt ones are refused in one line, and nothing is in between."""

import copy
import math
import os
import re

import pytest
import torch
from hydra.errors import HydraException
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from support.catalogue import composed, options
from vdm.cli.build import PARTS, build
from vdm.config.composed import to_plain
from vdm.config.hints import suggestion
from vdm.config.instantiate import PARTIAL, TARGET, check_calls, instantiate
from vdm.config.trust import TrustEverything
from vdm.draws import Draws, ExampleDraws
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.terms import TERMS
from vdm.training.parameters import parameter_groups

EXAMPLES = int(os.environ.get("VDM_EXAMPLES", "25"))
"""``make soak`` asks for more, and for others each time."""
AT_RANDOM = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES == 25,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)

GROUPS = ("schedule", "parameterisation", "likelihood", "time", "times", "objective", "sampler", "spacing")
TINY = {"unet": {"channels": 8, "blocks": 1}, "vdm_unet": {"channels": 8, "blocks": 1}, "mlp": {"hidden": 8, "blocks": 1}}
POINTS = {"experiment": "toy", "data.sizes": "{train: 100, val: 20, test: 20}"}
NARROW = {"digits": ("mlp", *TINY), "toy": ("mlp",)}


@st.composite
def overrides(draw):
    """Of any model with any parts, small; they may contradict each other."""
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
    """Two training steps, one evaluation, two samples: the terms in bits/dim; by hand, as a trainer would."""
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
def test_a_random_config_trains_or_says_which_parts_do_not_go_together(chosen):
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


def calls(tree, place=""):
    """(place, node) of every call."""
    if isinstance(tree, list):
        return [call for i, value in enumerate(tree) for call in calls(value, f"{place}[{i}]")]
    if not isinstance(tree, dict):
        return []
    inside = [call for key, value in tree.items() for call in calls(value, f"{place}.{key}" if place else key)]
    return ([(place, tree)] if TARGET in tree else []) + inside


def numbers(tree):
    """(node, key, place) of every number that a call is given."""
    found = [(node, key, f"{place}.{key}") for place, node in calls(tree) for key in node]
    return [entry for entry in found if isinstance(entry[0][entry[1]], int | float) and entry[1] != PARTIAL]


def built_parts(tree):
    return {name: tree[name] for name in PARTS}


@st.composite
def spoilt(draw):
    """(config, what was done to it, place): one thing is wrong that can be told from the config alone."""
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
def test_a_spoilt_config_is_refused_in_one_line_that_says_where(example):
    tree, kind, place = example
    note(f"{kind} at {place}")
    with pytest.raises(InvalidInput) as caught:
        build(tree)
    in_one_line(caught.value)
    assert place in str(caught.value), str(caught.value)


@pytest.mark.slow
@AT_RANDOM
@given(overrides(), st.data())
def test_a_number_out_of_place_is_refused_in_one_line_or_harmless(chosen, data):
    """Any number of the config replaced by a strange one: finite terms, or one line; never a traceback."""
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


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["time=continuous", "model.time.timesteps=100"], "it is a setting of time=discrete"),
        (["schedule=linear", "model.schedule.beta_0=1"], "it is a setting of schedule=ddpm"),
        (["network=unet", "model.denoiser.network.hidden=1"], "it is a setting of network=mlp"),
        (["model=vdm", "model.warmup.steps=5"], "it is a setting of kl_warmup=linear"),
    ],
)
def test_a_setting_of_another_choice_names_that_choice(words, reason):
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        composed(*words)
    assert reason in str(caught.value) + suggestion("train", str(caught.value))


LEVELS = "vdm.likelihoods.CategoricalLikelihood"
POSITIONAL = {
    "another type": ({"_target_": LEVELS, "_args_": ["many"]}, "part._args_[0] must be a whole number"),
    "too many": ({"_target_": LEVELS, "_args_": [17, 17, 17]}, "part._args_: CategoricalLikelihood takes 1 at most, got 3"),
    "twice": ({"_target_": LEVELS, "_args_": [17], "levels": 17}, "'levels' twice"),
    "no list": ({"_target_": LEVELS, "_args_": 17}, "part._args_ must be a list"),
    "none": ({"_target_": LEVELS, "_args_": []}, "needs levels"),
}


@pytest.mark.parametrize("name", POSITIONAL)
def test_positional_arguments_are_looked_at_like_named_ones(name):
    tree, reason = POSITIONAL[name]
    with pytest.raises(InvalidInput, match=re.escape(reason)):
        check_calls(tree, TrustEverything(), "part")
    assert instantiate({"_target_": LEVELS, "_args_": [17]}, TrustEverything()).levels == 17
