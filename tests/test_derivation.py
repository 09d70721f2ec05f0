"""docs/derivation.md: every equation has its number, and every function and test that it names exists."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/derivation.md").read_text()
NUMBERS = [f"1.{n}" for n in range(26, 105)]
CODE_NAMES = sorted(set(re.findall(r"`(vdm(?:\.\w+)+)`", TEXT)))
TEST_NAMES = sorted(set(re.findall(r"`(tests/\w+\.py(?:::\w+)+)`", TEXT)))
BLOCKS = re.findall(r"^\$\$\n(.*?)\n\$\$\n\n([^\n]*(?:\n[^\n]+)*)", TEXT, flags=re.M | re.S)


def resolve(name):
    """The object of a dotted name; a dataclass's or NamedTuple's field counts as an attribute."""
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        owner, _, attribute = name.rpartition(".")
        return pkgutil.resolve_name(owner).__annotations__[attribute]


def names_of_tests(path):
    """``test_name`` and ``TestClass::test_name`` of every test function in a file."""
    for node in ast.parse(path.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef) and member.name.startswith("test_"):
                yield prefix + member.name


def test_every_equation_has_one_tag():
    tags = re.findall(r"\\tag\{([^}]*)\}", TEXT)
    assert sorted(tags) == sorted(NUMBERS), set(NUMBERS) ^ set(tags) or "a number has several tags"


def test_every_tagged_block_names_code_and_test():
    tagged = [(math, below) for math, below in BLOCKS if r"\tag" in math]
    assert sum(math.count(r"\tag") for math, _ in tagged) == len(NUMBERS)
    for math, below in tagged:
        code, _, test = below.partition("*Test:*")
        assert code.startswith("*Code:*"), math
        assert re.search(r"`vdm\.", code), math
        assert set(re.findall(r"`([^`]+)`", test)) & set(TEST_NAMES), math


@pytest.mark.parametrize("name", CODE_NAMES)
def test_named_code_can_be_imported(name):
    assert resolve(name) is not None


@pytest.mark.parametrize("name", TEST_NAMES)
def test_named_test_exists(name):
    file, _, test = name.partition("::")
    assert test in set(names_of_tests(ROOT / file))


def test_every_law_is_named_on_the_page():
    """A test of tests/test_derivation_laws.py that the page does not name belongs elsewhere."""
    file = "tests/test_derivation_laws.py"
    assert {f"{file}::{test}" for test in names_of_tests(ROOT / file)} <= set(TEST_NAMES)


def test_math_survives_markdown():
    """No line of a formula starts like a list, a heading or a quotation, and brackets are balanced."""
    for math, _ in BLOCKS:
        assert not re.search(r"^\s*([-+*=>#]|\d+[.)])", math, flags=re.M), math
        assert math.count("{") == math.count("}"), math
        assert len(re.findall(r"\\left\b", math)) == len(re.findall(r"\\right\b", math)), math
        assert len(re.findall(r"\\begin\b", math)) == len(re.findall(r"\\end\b", math)), math
