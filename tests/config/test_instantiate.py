"""A tree of plain values is checked before any call, and built from the innermost call outwards."""

import re
from fractions import Fraction
from functools import partial

import pytest

from vdm.config.instantiate import check_calls, instantiate
from vdm.config.trust import TrustEverything
from vdm.errors import InvalidInput

LEVELS = "vdm.likelihoods.CategoricalLikelihood"
FRACTION = {"_target_": "fractions.Fraction", "_args_": [1, 2]}
REFUSED = {
    "no number": ({"_target_": LEVELS, "levels": "x"}, "part.levels must be a whole number or a LevelScale, got 'x'"),
    "misspelt argument": ({"_target_": LEVELS, "level": 17}, "has no 'level'; did you mean 'levels'?"),
    "missing argument": ({"_target_": LEVELS}, "CategoricalLikelihood needs levels: add part.levels=…"),
    "misspelt target": ({"_target_": f"{LEVELS}s"}, "did you mean 'CategoricalLikelihood'?"),
    "missing package": ({"_target_": "vdn.elbo"}, "part: there is no vdn.elbo; check the spelling"),
    "no callable": ({"_target_": "math.pi"}, "part: math.pi is a float and cannot be called"),
    "no name": ({"_target_": 5}, "part._target_ must be a dotted name, got 5"),
    "an unknown setting": ({"_target_": LEVELS, "_call_": "all"}, "part: a call has no setting '_call_'"),
    "a number for a name": ({"_target_": LEVELS, 5: 5}, "part: a call has no setting 5"),
    "in a list": ([{"_target_": LEVELS, "levels": "x"}], "part[0].levels must be"),
    "positional, wrong type": ({"_target_": LEVELS, "_args_": ["many"]}, "part._args_[0] must be a whole number"),
    "positional, too many": (
        {"_target_": LEVELS, "_args_": [17, 17]},
        "CategoricalLikelihood: too many positional arguments",
    ),
    "positional and named": ({"_target_": LEVELS, "_args_": [17], "levels": 17}, "multiple values for argument 'levels'"),
    "positional, no list": ({"_target_": LEVELS, "_args_": 17}, "part._args_ must be a list"),
    "positional, none": ({"_target_": LEVELS, "_args_": []}, "needs levels"),
}


@pytest.mark.parametrize("build", [check_calls, instantiate])
@pytest.mark.parametrize("name", REFUSED)
def test_arguments_that_do_not_fit_are_refused(name, build):
    tree, reason = REFUSED[name]
    with pytest.raises(InvalidInput, match=re.escape(reason)) as caught:
        build(tree, TrustEverything(), "part")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (FRACTION, "Fraction"),
        ({"_target_": "vdm.schedules.linear_betas", "steps": 2}, "[0.9999, 0.98]"),
        ({"_target_": "torch.nn.Linear", "_args_": [1, 1]}, "Linear"),
    ],
)
def test_built_arguments_of_another_type_are_refused(value, shown):
    """A class, a list that a function returns, a module: all are known only once they are built."""
    tree = {"_target_": LEVELS, "levels": value}
    check_calls(tree, TrustEverything(), "part")
    with pytest.raises(InvalidInput, match=re.escape(f"part.levels must be a whole number or a LevelScale, got {shown}")):
        instantiate(tree, TrustEverything(), "part")


def test_check_calls_refuses_a_partial_of_another_type():
    tree = {"_target_": LEVELS, "levels": FRACTION | {"_partial_": True}}
    with pytest.raises(InvalidInput, match=re.escape("part.levels must be a whole number or a LevelScale, got partial")):
        check_calls(tree, TrustEverything(), "part")


def test_built_arguments_that_fit_are_passed():
    tree = {"_target_": LEVELS, "levels": {"_target_": "builtins.len", "_args_": [[0] * 17]}}
    assert instantiate(tree, TrustEverything()).levels == 17
    assert instantiate({"_target_": LEVELS, "_args_": [17]}, TrustEverything()).levels == 17


def test_partial_calls_need_no_complete_arguments():
    made = instantiate({"_target_": LEVELS, "_partial_": True}, TrustEverything())
    assert isinstance(made, partial)
    assert made(17).levels == 17


def test_objects_in_a_tree_stay_as_they_are():
    value = Fraction(1, 2)
    assert instantiate({"part": [value, {"_target_": "fractions.Fraction", "_args_": [value]}]}, TrustEverything()) == {
        "part": [value, value]
    }


@pytest.mark.parametrize("wrong", [name for name in REFUSED if name != "in a list"])
def test_nothing_is_called_if_a_later_call_is_wrong(wrong, tmp_path):
    first = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    with pytest.raises(InvalidInput):
        instantiate([first, REFUSED[wrong][0]], TrustEverything())
    assert not (tmp_path / "made").exists()


def test_errors_of_a_call_name_its_place():
    with pytest.raises(InvalidInput, match=r"^part\.half: ZeroDivisionError: Fraction\(1, 0\)$"):
        instantiate({"half": FRACTION | {"_args_": [1, 0]}}, TrustEverything(), "part")


def test_settings_of_hydra_are_understood():
    """``_recursive_: false`` passes calls on unmade; every conversion is already made."""
    inner = {"_target_": "fractions.Fraction", "_args_": [1, 2]}
    tree = {"_target_": "builtins.dict", "_convert_": "all", "_recursive_": False, "given": inner}
    assert instantiate(tree, TrustEverything()) == {"given": inner}
    assert instantiate(tree | {"_recursive_": True}, TrustEverything()) == {"given": Fraction(1, 2)}
