"""Every yaml of every group composes and instantiates; every concrete class has a yaml."""

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from support.catalogue import CONFIGS, composed, concrete, options, part
from support.groups import BESIDE, KINDS, OWNERS
from support.idx_files import small_mnist
from support.image_files import small_cifar10, small_folder, small_imagenet
from vdm.config.instantiate import PARTIAL, TARGET, calls, instantiate
from vdm.config.signatures import accepted
from vdm.config.trust import TrustEverything
from vdm.parameterisations import ClippedParameterisation, LearnedVarianceParameterisation
from vdm.training.build import build

EVALUATION = {"estimator", "divergence", "dequantisation", "relative"}
"""Groups of vdm-evaluate; all others but ``grid``, of vdm-compress, belong to vdm-train."""


def groups():
    return sorted(folder.name for folder in CONFIGS.iterdir() if folder.is_dir() and options(folder.name))


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in groups() for o in options(g)])
def test_every_option_composes_and_resolves(group, option):
    if group in EVALUATION | {"grid"}:
        config = composed(f"{group}={option}", "ckpt=unused", config="compress" if group == "grid" else "evaluate")
    else:
        config = composed(*OWNERS.get(group, []), f"{group}={option}")
    tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    trust = TrustEverything()
    for place, node in calls(tree):
        if node[TARGET].startswith("vdm."):
            named = {name: value for name, value in node.items() if isinstance(value, dict) and value.get(PARTIAL)}
            _, types = accepted(trust.find(node[TARGET], place), instantiate(named, trust))
            assert {name for name in node if not name.startswith("_")} <= types.keys(), f"types at {place} cannot be checked"


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in KINDS for o in options(g)])
def test_every_option_instantiates_to_its_kind(group, option):
    path, kind = KINDS[group]
    assert isinstance(part(path, *OWNERS.get(group, []), f"{group}={option}"), kind)


WRAPPERS = {ClippedParameterisation, LearnedVarianceParameterisation}
"""Parts around another part of their kind, which no yaml of the group can choose."""


@pytest.mark.parametrize("group", KINDS)
def test_every_concrete_class_has_a_yaml(group):
    path, kind = KINDS[group]
    chosen = [(name, option) for name in (group, *BESIDE.get(group, ())) for option in options(name)]
    found = {type(part(path, *OWNERS.get(group, []), f"{name}={option}")) for name, option in chosen}
    assert found == concrete(kind) - WRAPPERS


def small_files(experiment, root):
    """Write small files for an experiment with downloaded data; return overrides to read them with a small network."""
    shallow = ["model.denoiser.network.channels=64", "model.denoiser.network.blocks=1", "data.batch_size=4"]
    if experiment in ("mnist", "fashion_mnist"):
        return small_mnist(root)[0]
    if experiment == "folder":
        return [*small_folder(root / "pictures")[0], "data.batch_size=4"]
    if experiment == "cifar10":
        return [*small_cifar10(root)[0], *shallow]
    if experiment == "cifar10_small":
        return [*small_cifar10(root)[0], "data.batch_size=4"]
    if experiment in ("imagenet32", "imagenet64"):
        return [*small_imagenet(root, side=int(experiment[-2:]))[0], *shallow]
    return []


@pytest.mark.parametrize("option", options("experiment"))
def test_every_experiment_builds(option, tmp_path):
    data, task = build(composed(f"experiment={option}", *small_files(option, tmp_path)))
    assert data.event_shape
    assert sum(p.numel() for p in task.model.parameters()) > 0


def test_groups_have_a_choice():
    """A group with one option is a constant in disguise."""
    single = {group for group in groups() if len(options(group)) < 2}
    assert single <= {"data", "model", "callbacks", "experiment"}


def test_a_schedule_is_refused_where_the_model_has_none():
    with pytest.raises(Exception, match="schedule"):
        composed("model=vdm", "schedules=cosine")


@pytest.mark.parametrize("group", ["schedule=cosine", "network=mlp", "time=discrete"])
@pytest.mark.parametrize("model", ["hvae", "mhvae"])
def test_parts_of_the_diffusion_model_are_refused_elsewhere(model, group):
    """``model=hvae schedule=cosine`` adds no schedule, ``model=vdm kl_warmup=linear`` no warm-up."""
    with pytest.raises(ConfigCompositionException, match=group.split("=")[0]):
        composed(f"model={model}", group)
    with pytest.raises(ConfigCompositionException, match="kl_warmup"):
        composed("model=vdm", "kl_warmup=linear")
