"""``vdm-report compare``: the page, the table and compare.json."""

import json

import pytest

from support.commands import invoke
from support.results import bits, examples, store
from vdm.cli import report


def call(*words):
    return invoke(report, "compare", *words)


def test_report_compares_two_results(tmp_path, capsys):
    a, b = (
        store(tmp_path / n, examples(bits(i, shift=0.1 * i), gamma=bits(5).astype("float32"))) for i, n in enumerate("ab")
    )
    assert call(f"runs=[{a},{b}]", f"folder={tmp_path}/out") == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    assert found["paired"] is True
    assert found["difference"]["bits_per_dim"]["value"] == pytest.approx(bits(0).mean() - bits(1, shift=0.1).mean())
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if "│" in line)
    assert "They do not contain training seeds" in out
    page = (tmp_path / "out/report.html").read_text()
    assert "By noise level" in page
    assert "paired by example and by draw" in page


def test_report_groups_runs_by_seed(tmp_path):
    """Training runs with the same overrides but the seed are one side."""
    places = []
    for number, schedule in enumerate(("linear", "cosine")):
        for seed in (1, 2, 3):
            content = examples(bits(10 * number + seed, shift=number), seed=seed)
            places.append(store(tmp_path / f"{schedule}{seed}", content, [f"schedule={schedule}", f"seed={seed}"]))
    assert call(f"runs=[{','.join(map(str, places))}]", f"folder={tmp_path}/out") == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    assert (found["a"], found["reference"], found["seeds"]) == ("schedule=linear", "schedule=cosine", [3, 3])


def test_report_of_two_seeds_compares_them(tmp_path):
    a, b = (store(tmp_path / n, examples(bits(i), seed=i), [f"seed={i}"]) for i, n in enumerate("ab"))
    assert call(f"runs=[{a},{b}]", f"folder={tmp_path}/out") == 0
    assert json.loads((tmp_path / "out/compare.json").read_text())["seeds"] == [1, 1]


def test_report_takes_lists_of_seeds(tmp_path):
    a1, a2, b = (store(tmp_path / n, examples(bits(i), seed=i)) for i, n in enumerate(("a1", "a2", "b")))
    assert call(f"runs=[[{a1},{a2}],{b}]", f"folder={tmp_path}/out") == 0
    assert json.loads((tmp_path / "out/compare.json").read_text())["seeds"] == [2, 1]


def test_report_on_three_corrects_for_their_number(tmp_path, capsys):
    places = [store(tmp_path / n, examples(bits(i, shift=0.1 * i))) for i, n in enumerate("abc")]
    assert call(f"runs=[{','.join(map(str, places))}]", f"folder={tmp_path}/out", "reference=best") == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    assert (found["reference"], found["corrected_for"]) == ("a", 3)
    assert [each["a"] for each in found["comparisons"]] == ["b", "c"]
    out = capsys.readouterr().out
    assert "Bonferroni, 3 comparisons" in out
    assert "simultaneous" in next(line for line in out.splitlines() if "95 % interval" in line)  # a grid within 80 columns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder=out"], "runs= is needed"),
        (["runs=[a]"], "folder= is needed"),
        (["runs=nothing", "folder=out"], "is not a list of folders"),
        (["runs=[{a: 1}]", "folder=out"], "is not a list of folders"),
        (["runs=[a", "folder=out"], "is not a list of folders"),
        (["runs=[missing,missing]", "folder=out"], "missing holds no result"),
        (["runs=[A]", "folder=out"], "at least two"),
        (["runs=[A,A]", "folder=out", "reference=zzz"], "there is no 'zzz' to compare with"),
    ],
)
def test_report_refuses(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "A", examples(bits(1)))
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def sweep(tmp_path):
    """A sweep whose runs keep the values of single examples; numbers as Optuna's sweeper gives them."""
    jobs = [("linear", 0.2), ("cosine", 0.0), ("sigmoid", 0.05)]
    for number, (schedule, shift) in enumerate(jobs):
        for seed in (1, 2):
            content = examples(bits(10 * number + seed, shift=shift), seed=seed)
            store(tmp_path / "sweep" / str(2 * number + seed), content, [f"schedule={schedule}", f"seed={seed}"])
    return tmp_path / "sweep"


@pytest.mark.parametrize(("words", "count"), [((), 3), (("reference=schedule=cosine",), 2)])
def test_sweep_report_shows_paired_differences(sweep, capsys, words, count):
    """To the best by default, the best first, corrected for all pairs unless the reference was named."""
    assert invoke(report, f"sweep={sweep}", *words) == 0
    text = (sweep / "report/report.md").read_text().partition("## difference to schedule=cosine")[2]
    rows = [line for line in text.splitlines() if line.startswith("| schedule")]
    assert [row.split("|")[1].strip() for row in rows] == ["schedule=sigmoid", "schedule=linear"]
    assert "Paired by draws: paired by example and by draw" in text
    assert f"Bonferroni, {count} comparisons" in text
    assert "difference to schedule=cosine" in capsys.readouterr().out


def test_sweep_report_refuses_an_unknown_reference(sweep, capsys):
    assert invoke(report, f"sweep={sweep}", "reference=schedule=cosin") == 2
    assert "did you mean 'schedule=cosine'" in capsys.readouterr().err


def test_sweep_report_survives_damaged_examples(sweep, capsys):
    (sweep / "1/examples.npz").write_bytes(b"PK")
    assert invoke(report, f"sweep={sweep}") == 0
    assert "schedule=linear is not compared" in " ".join(capsys.readouterr().out.split())
