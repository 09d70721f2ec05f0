"""How stored results are paired, and what is refused."""

import numpy as np
import pytest

import vdm
from support.results import N, bits, examples, store
from vdm.errors import InvalidInput
from vdm.evaluation.compare import compare
from vdm.evaluation.comparison import difference
from vdm.evaluation.families import compare_to
from vdm.runs.examples import write_examples
from vdm.runs.results import read_result
from vdm.terms import TERMS


def test_compare_pairs_by_example_and_draw(tmp_path):
    a, b = bits(1, shift=0.05), bits(2)
    found = compare(store(tmp_path / "a", examples(a)), store(tmp_path / "b", examples(b)))
    assert (found.pairing, found.paired, found.seeds, found.examples) == ("draws", True, (1, 1), N)
    assert found.total == difference(a[None], b[None], "draws")
    assert found.total.value == pytest.approx(a.mean() - b.mean())
    assert 3 * found.total.se < found.unpaired.se
    assert found.difference.keys() == {*TERMS}
    assert "not over seeds of a: it has one" in found.notes


def test_vdm_compare_is_the_public_name():
    assert vdm.compare is compare


def test_compare_entry_has_the_documented_keys(tmp_path):
    entry = compare(store(tmp_path / "a", examples(bits(1))), store(tmp_path / "b", examples(bits(2)))).entry()
    assert entry["difference"]["bits_per_dim"].keys() >= {"value", "se", "low", "high", "df"}
    assert entry["paired"] is True


def test_compare_takes_lone_files_in_any_order_of_examples(tmp_path):
    """Pairing is by the key of an example, not by its row: B lacks every third."""
    a, b = bits(1), bits(2)
    kept = np.arange(N) % 3 > 0
    fewer = examples(b)
    fewer = fewer._replace(index=fewer.index[kept], terms={name: each[kept] for name, each in fewer.terms.items()})
    for name, content in (("a", examples(a)), ("b", fewer)):
        (tmp_path / name).mkdir()
        write_examples(tmp_path / name / "examples.npz", content)
    found = compare(tmp_path / "a/examples.npz", tmp_path / "b")
    assert found.total == difference(a[kept][None], b[kept][None], "draws")
    assert f"on the {kept.sum()} examples that both sides have" in found.notes


@pytest.mark.parametrize(
    ("other", "pairing"),
    [
        (examples(bits(2), draws=3), "examples"),
        (examples(bits(2)[:, :9]), "draws"),
        (examples(bits(2)[:, :4]), "examples"),
        (examples(bits(2), sha256="other"), "none"),
    ],
    ids=["other draws", "fewer replicates", "few replicates", "other examples"],
)
def test_compare_says_how_results_are_paired(tmp_path, other, pairing):
    found = compare(store(tmp_path / "a", examples(bits(1))), store(tmp_path / "b", other))
    assert found.pairing == pairing
    assert len(found.notes) > 2


def test_compare_of_earlier_results_is_unpaired(tmp_path):
    """Without values of single examples the errors of metrics.json are all there is."""
    a, b = (store(tmp_path / name, examples(bits(i)), with_examples=name == "a") for i, name in enumerate("ab"))
    found, results = compare(a, b), [read_result(place).terms["bits_per_dim"] for place in (a, b)]
    assert found.pairing == "none"
    assert found.total.se == pytest.approx(np.hypot(*(each.data_se for each in results)))
    assert any("no values of single examples in b" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mnist"}, "no difference between them means anything"),
        ({"release": "two"}, "no difference between them means anything"),
    ],
)
def test_compare_refuses_other_data(tmp_path, change, message):
    a, b = store(tmp_path / "a", examples(bits(1))), store(tmp_path / "b", examples(bits(2), **change))
    with pytest.raises(InvalidInput, match=message):
        compare(a, b)


def test_compare_refuses_other_units(tmp_path):
    other = examples(bits(2))
    other = other._replace(about={**other.about, "levels": 256})
    a, b = store(tmp_path / "a", examples(bits(1))), store(tmp_path / "b", other)
    with pytest.raises(InvalidInput, match="in other units"):
        compare(a, b)


def test_compare_refuses_files_of_two_evaluations(tmp_path):
    a, b = store(tmp_path / "a", examples(bits(1))), store(tmp_path / "b", examples(bits(2, shift=1)))
    (a / "examples.npz").write_bytes((b / "examples.npz").read_bytes())
    with pytest.raises(InvalidInput, match="of two evaluations"):
        compare(a, b)


def test_compare_counts_seeds_as_a_level(tmp_path):
    sides = {"a": [bits(i, shift=s) for i, s in enumerate((0.0, 0.3, 0.6))], "b": [bits(9), bits(8, shift=0.1)]}
    places = {
        name: [store(tmp_path / f"{name}{i}", examples(total, seed=i)) for i, total in enumerate(totals)]
        for name, totals in sides.items()
    }
    found = compare(places["a"], places["b"])
    assert found.seeds == (3, 2)
    assert found.total == difference(np.stack(sides["a"]), np.stack(sides["b"]), "draws")
    assert found.total.se > 5 * compare(places["a"][0], places["b"][0]).total.se
    assert not any("seeds" in note for note in found.notes)


def test_compare_counts_a_repeated_seed_once(tmp_path):
    places = [store(tmp_path / str(i), examples(bits(i), seed=0)) for i in range(3)]
    assert compare(places[:2], places[2]).seeds == (1, 1)


def test_bands_add_up_to_the_term(tmp_path):
    gamma = np.random.default_rng(3).uniform(-8, 5, (2, N, 10)).astype("float32")
    a, b = (store(tmp_path / n, examples(bits(i), gamma[i])) for i, n in enumerate("ab"))
    found = compare(a, b, bands=4)
    assert [(round(b.low), round(b.high)) for b in found.bands][::3] == [(-8, -5), (2, 5)]
    total = sum(band.difference.value for band in found.bands)
    assert total == pytest.approx(found.difference["denoising_matching"].value)


def test_further_estimates_are_compared(tmp_path):
    values = [bits(i, n=6, repeats=2) for i in range(2)]
    a, b = (store(tmp_path / n, examples(bits(i), estimates={"flow": values[i]})) for i, n in enumerate("ab"))
    found = compare(a, b).estimates["flow"]
    assert found == difference(values[0][None], values[1][None], "draws")


def test_family_is_sorted_and_corrected(tmp_path):
    groups = {name: examples(bits(i, shift=s)) for i, (name, s) in enumerate({"x": 0.2, "y": 0.0, "z": 0.1}.items())}
    results = {name: [read_result(store(tmp_path / name, content))] for name, content in groups.items()}
    reads = {name: lambda each=each: each for name, each in results.items()}
    given, best = compare_to("y", reads), compare_to("y", reads, best=True)
    assert [each.a for each in given.comparisons] == ["z", "x"]
    assert (given.corrected_for, best.corrected_for) == (2, 3)
    assert (given.confidence, best.confidence) == pytest.approx((0.975, 1 - 0.05 / 3))
    assert all(one >= each.total.p for one, each in zip(given.adjusted, given.comparisons, strict=True))


def test_family_lists_what_cannot_be_compared(tmp_path):
    contents = {"x": examples(bits(0)), "y": examples(bits(1)), "z": examples(bits(2), name="mnist")}
    results = {name: [read_result(store(tmp_path / name, content))] for name, content in contents.items()}
    family = compare_to("y", {name: lambda each=each: each for name, each in results.items()})
    assert [each.a for each in family.comparisons] == ["x"]
    assert "mnist" in family.refused["z"]


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_compare_notes_draws_at_other_noise_levels(tmp_path, shift):
    gamma = bits(7).astype("float32")
    a, b = (store(tmp_path / n, examples(bits(i), gamma + shift * i)) for i, n in enumerate("ab"))
    assert any("even_gamma=true" in note for note in compare(a, b).notes) == (shift > 0)
