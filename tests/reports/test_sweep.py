"""Sweeps: what a restart runs again, and a report that is right whatever state the runs are in."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from support.catalogue import options, part
from support.commands import invoke
from support.training_runs import SMALL
from vdm.cli import report, train
from vdm.reports.groups import groups
from vdm.runs.sweeps import read_sweep
from vdm.runs.tables import PROFILE_COLUMNS as PROFILE
from vdm.runs.tables import append_rows
from vdm.terms import TERMS

TINY = (*SMALL, "trainer.max_steps=4", "trainer.val_check_interval=2")


def make_run(root, name, overrides, values=None, steps=(), failure=None, limit=100, **more):
    """The files that a run leaves, without the run."""
    folder = root / name
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra/overrides.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")
    OmegaConf.save(OmegaConf.create({"trainer": {"max_steps": limit}}), folder / "config.yaml")
    if steps:
        lines = ["step,val/bits_per_dim", *(f"{step},{5 - step / 100}" for step in steps)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if values is not None:
        test = {term: {"value": value, "mc_se": 0.01, "data_se": 0.02} for term, value in zip(TERMS, values, strict=True)}
        (folder / "metrics.json").write_text(json.dumps({"test": test, "provenance": {}, **more}))
    if failure is not None:
        (folder / "failure.txt").write_text(failure)


@pytest.fixture
def sweep(tmp_path):
    """Of 2 × 3 jobs: 2 finished and 1 failed; 1 finished, 1 unfinished, 1 missing."""
    common = ["trainer.max_steps=100"]
    rows = [("0", "linear", "1", (3.0, 1.0, 0.5, 1.5)), ("1", "linear", "2", (4.0, 1.5, 0.5, 2.0))]
    for name, schedule, seed, values in rows:
        make_run(tmp_path, name, [f"schedule={schedule}", f"seed={seed}", *common], values, steps=(50, 100))
    make_run(tmp_path, "2", ["schedule=linear", "seed=3", *common], failure="InvalidInput: <b>loss</b> is nan at | step 7")
    make_run(tmp_path, "3", ["schedule=cosine", "seed=1", *common], (3.25, 1.0, 0.5, 1.75), steps=(50, 100))
    make_run(tmp_path, "4", ["schedule=cosine", "seed=2", *common], steps=(10, 20))
    multirun = {
        "hydra": {
            "overrides": {"task": [*common, "schedule=linear,cosine", "seed=1,2,3"]},
            "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "params": None},
        }
    }
    OmegaConf.save(OmegaConf.create(multirun), tmp_path / "multirun.yaml")
    for name, mean in (("0", 3.0), ("1", 5.0), ("2", 99.0)):  # halves of the draws at 0 and at ``mean``, each without spread
        append_rows(tmp_path / name / "profile.csv", PROFILE, [(50, -8, 4, 1, 9.0, 9.0)])
        append_rows(tmp_path / name / "profile.csv", PROFILE, [(100, -8, -2, 5, 0.0, 0.0), (100, -2, 4, 5, mean, 0.0)])
    (tmp_path / "1/pictures").mkdir()
    Image.new("L", (80, 80), 128).save(tmp_path / "1/pictures/samples.png")
    return tmp_path


def test_every_run_is_accounted_for(sweep):
    runs = read_sweep(sweep)
    states = {(run.settings["schedule"], run.settings["seed"]): run.state for run in runs}
    assert states == {
        ("linear", "1"): "finished",
        ("linear", "2"): "finished",
        ("linear", "3"): "failed",
        ("cosine", "1"): "finished",
        ("cosine", "2"): "unfinished",
        ("cosine", "3"): "missing",
    }
    notes = {run.state: run.note for run in runs}
    assert notes["unfinished"].startswith("step 20 of 100, last written ")


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        ("seed=range(0,7)", 6),
        ("seed=1,1", 1),
        ("seed=shuffle(range(0,7))", 6),
        ("seed=range(0,1000000000000)", 0),
        ("seed=shuffle(range(0,1000000000000))", 0),
        ("seed=range(0,1,1e-12)", 0),
        ("a=range(0,1000) b=range(0,1000)", 0),
    ],
)
def test_jobs_beyond_counting_are_not_listed(tmp_path, asked, missing):
    make_run(tmp_path, "0", ["seed=1"], failure="gone")
    hydra = {"overrides": {"task": asked.split()}, "sweeper": {"_target_": "BasicSweeper"}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), tmp_path / "multirun.yaml")
    assert [run.state for run in read_sweep(tmp_path)] == ["failed"] + missing * ["missing"]


def test_a_command_that_is_refused_does_not_rename_earlier_results(sweep, capsys):
    """Hydra has written its own record of it by then."""
    before = read_sweep(sweep)
    assert invoke(train, "-m", "schedule=sigmoid,monotone", "seed=7", f"hydra.sweep.dir={sweep}") != 0
    assert "earlier run's result" in capsys.readouterr().err
    assert "schedule=sigmoid" in (sweep / "0/.hydra/overrides.yaml").read_text()
    after = {run.folder.root: run.settings for run in read_sweep(sweep) if run.folder is not None}
    assert after == {run.folder.root: run.settings for run in before if run.folder is not None}


def test_means_and_standard_errors_are_those_over_the_finished_seeds(sweep):
    """3 and 4: mean 3.5, standard deviation 1/√2, standard error 1/2. One seed has no standard error."""
    cosine, linear = groups(read_sweep(sweep))  # the better mean first
    assert (cosine.label, linear.label) == ("schedule=cosine", "schedule=linear")
    assert linear.summary("bits_per_dim") == pytest.approx((3.5, 0.5, 0.01, 0.02))
    assert linear.summary("denoising_matching") == pytest.approx((1.75, 0.25, 0.01, 0.02))
    assert cosine.summary("bits_per_dim").mean == 3.25
    assert math.isnan(cosine.summary("bits_per_dim").se)


def test_a_seed_that_is_repeated_counts_once(tmp_path, capsys):
    """3 and 4, and 4 again: still 3.5 ± 0.5. What a run says of its own seed goes before what it was told."""
    rows = [("0", "1", 1, 3.0), ("1", "2", 2, 4.0), ("2", "0x2", 2, 4.0)]
    for name, told, seed, value in rows:
        make_run(tmp_path, name, [f"seed={told}"], (value, 1.0, 0.5, 1.5), (50,), provenance={"seed": seed})
    (group,) = groups(read_sweep(tmp_path))
    assert group.summary("bits_per_dim") == pytest.approx((3.5, 0.5, 0.01, 0.02))
    assert invoke(report, f"sweep={tmp_path}") == 0
    assert "| all | 3 of 3, seeds: 2 | 3.50 ± 0.50 |" in (tmp_path / "report/report.md").read_text()


@pytest.mark.parametrize(("told", "status"), [("seed=2", 2), ("data=other", 0)])
def test_there_is_no_mean_over_different_data(tmp_path, capsys, told, status):
    """Where nothing but the seed differs it is refused, elsewhere said."""
    for name, setting, sha256 in (("0", "seed=1", "a"), ("1", told, "b")):
        facts = {"data": {"splits": {"test": {"sha256": sha256}}}}
        make_run(tmp_path, name, [setting], (3.0, 1.0, 0.5, 1.5), (50,), provenance=facts)
    assert invoke(report, f"sweep={tmp_path}") == status
    said = capsys.readouterr()
    refused, warned = "have the same settings and other data, and so no mean", "the runs are on different data"
    assert (refused if status else warned) in " ".join((said.err if status else said.out).split())


def test_the_same_bytes_are_the_same_data(tmp_path):
    """Whatever else is said of them: the folder's name, or how many files in it were none."""
    for name, other in (("0", {"left_out": {}}), ("1", {"left_out": {"unreadable": 1}, "name": "a copy"})):
        facts = {"data": {"splits": {"test": {"sha256": "a"}}, **other}, "seed": name}
        make_run(tmp_path, name, [f"seed={name}"], (3.0, 1.0, 0.5, 1.5), provenance=facts)
    (group,) = groups(read_sweep(tmp_path))
    assert len(group.seeds) == 2


def test_the_best_is_first_and_what_is_no_number_last(tmp_path):
    for name, value in (("a", 3.0), ("b", math.nan), ("c", 1.0)):
        make_run(tmp_path, name, [f"schedule={name}"], (value,) * 4)
    assert [group.label[-1] for group in groups(read_sweep(tmp_path))] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.csv", "step,val/bits_per_dim\nx,1\n"),
        ("metrics.csv", f"step,val/bits_per_dim\n1{400 * '0'},1\n"),
        ("metrics.csv", f"step,val/bits_per_dim\n1,{200_000 * '9'}\n"),
        ("profile.csv", "step\n1\n"),
    ],
)
def test_a_damaged_curve_costs_no_result(sweep, capsys, name, content):
    (sweep / "1" / name).write_text(content)
    assert invoke(report, f"sweep={sweep}") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "6 runs, 3 finished, 1 failed, 1 unfinished, 1 missing" in printed
    assert f"1/{name} holds something else than vdm writes" in printed.replace("- ", "-")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", json.dumps({"test": {term: {"value": 10**400, "mc_se": 1, "data_se": 1} for term in TERMS}})),
        ("metrics.json", json.dumps({"test": {term: {"value": "3 or 4", "mc_se": 1, "data_se": 1} for term in TERMS}})),
        ("overrides.yaml", "- 'a=${b'\n"),
    ],
)
def test_a_job_that_cannot_be_read_costs_the_others_nothing(sweep, capsys, name, content):
    (sweep / "1" / name).write_text(content)
    assert invoke(report, f"sweep={sweep}") == 0
    assert {run.state for run in read_sweep(sweep) if run.folder and run.folder.root.name == "1"} == {"failed"}
    assert "6 runs, 2 finished, 2 failed, 1 unfinished, 1 missing" in capsys.readouterr().out
    assert "holds something else than vdm writes" in (sweep / "report/runs.csv").read_text()


@pytest.mark.parametrize("name", ["report", "5", "multirun.yaml"])
@pytest.mark.parametrize("kind", ["sweep", "lineage"])
def test_a_link_out_of_a_sweep_is_refused(sweep, tmp_path_factory, capsys, name, kind):
    """A job elsewhere would be shown, and a report elsewhere written."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (sweep / name).unlink(missing_ok=True)
    (sweep / name).symlink_to(elsewhere)
    asked = [f"sweep={sweep}"] if kind == "sweep" else ["lineage", f"runs={sweep}", f"hydra.run.dir={sweep}/page"]
    assert invoke(report, *asked) == 2
    assert f"{name} is a link out of {sweep}" in capsys.readouterr().err
    assert not any(elsewhere.iterdir())


def test_the_report_says_what_is_missing_and_shows_nothing_as_code(sweep, capsys):
    assert invoke(report, f"sweep={sweep}") == 0
    out = capsys.readouterr().out
    text, markup = ((sweep / "report" / name).read_text() for name in ("report.md", "report.html"))
    for shown in (out, text, markup):
        assert "6 runs, 3 finished, 1 failed, 1 unfinished, 1 missing" in shown
    assert "| schedule=linear | 2 of 3 | 3.50 ± 0.50 | 1.25 ± 0.25 | 0.500 ± 0.000 | 1.75 ± 0.25 | 0.01 | 0.02 |" in text
    assert "| schedule=cosine | 1 of 3 | 3.250 | 1.000 | 0.500 | 1.750 | 0.010 | 0.020 |" in text
    assert "- schedule=cosine seed=3 trainer.max_steps=100: missing" in text
    assert "\\<b\\>loss\\</b\\>" in text
    assert "<b>" not in markup
    assert "&lt;b&gt;loss&lt;/b&gt;" in markup
    HTMLParser().feed(markup)
    with (sweep / "report/runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["bits_per_dim"] for row in rows if row["state"] == "finished"] == ["3.0", "4.0", "3.25"]
    assert len(rows) == 6
    assert {row["bits_per_dim"] for row in rows if row["state"] != "finished"} == {""}
    assert (sweep / "report/curves.png").stat().st_size > 5000


def test_warnings_and_flips_stand_beside_the_numbers(tmp_path, capsys):
    for name, settings, flip in (("0", "data.flip=true", True), ("1", "data.flip=false", False)):
        facts, said = {"data": {"flip": flip}}, ["trust it <not>\x1b"] if flip else []
        make_run(tmp_path, name, [settings], (3.0, 1.0, 0.5, 1.5), (50,), provenance=facts, warnings=said)
    assert invoke(report, f"sweep={tmp_path}") == 0
    said, markup, text = (
        capsys.readouterr().out,
        (tmp_path / "report/report.html").read_text(),
        (tmp_path / "report/report.md").read_text(),
    )
    for shown, sentence in ((said, "<not>�"), (markup, "&lt;not&gt;�"), (text, "\\<not\\>�")):
        assert "data.flip=true, trained with flips" in shown
        assert "data.flip=false, trained" not in shown
        assert f"trust it {sentence}" in shown
        assert "over training seeds only" in " ".join(shown.split())


def test_what_a_stranger_wrote_stays_text_in_a_spreadsheet_in_markdown_and_on_the_screen(tmp_path, capsys):
    """A formula, a link and the console's own mark-up; numbers stay numbers."""
    sweep = tmp_path / "[red]a sweep"
    settings = ["+note==1+1", "+link=[x](javascript:y)", "gamma_min=-8.0"]
    make_run(sweep, "0", settings, (3.0, 1.0, 0.5, 1.5), steps=(50, 100))
    make_run(sweep, "1", ["+note=|<i>", "gamma_min=-8.5"], (4.0, 1.0, 0.5, 2.5), steps=(50, 100))
    assert invoke(report, f"sweep={sweep}") == 0
    assert "[red]a sweep: 2 runs" in capsys.readouterr().out
    with (sweep / "report/runs.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["'+note"], first["gamma_min"], second["gamma_min"]) == ("'=1+1", "-8.0", "-8.5")
    text = (sweep / "report/report.md").read_text()
    assert "+link=\\[x\\](javascript:y)" in text
    assert "+note=\\|\\<i\\>" in text


def test_variance_and_samples_are_those_of_the_finished_runs(sweep):
    """(3/2)² and (5/2)² on average; neither the failed run's nor that of earlier steps."""
    assert invoke(report, f"sweep={sweep}") == 0
    lines = (sweep / "report/report.md").read_text().splitlines()
    last = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines if line.startswith("| schedule")}
    assert last == {"schedule=linear": f"{(2.25 + 6.25) / 2:.3g}", "schedule=cosine": "—"}
    markup = (sweep / "report/report.html").read_text()
    assert len(re.findall(r"<figcaption[^>]*>schedule=\w+</figcaption>", markup)) == 1
    assert len(re.findall("data:image/png;base64,", markup)) == 4  # curves, profile, variance, samples
    assert not re.search(r"(src|href)=\"(?!data:)", markup)


def test_a_report_of_nothing_is_refused(tmp_path, capsys):
    for arguments, message in (
        ([f"sweep={tmp_path}"], "no run of a sweep"),
        ([f"sweep={tmp_path}", "a=1"], "'a'"),
        ([], "say"),
    ):
        assert invoke(report, *arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", options("sweep"))
def test_ready_made_sweeps_name_parts_that_exist(option):
    sweep = OmegaConf.load(f"{part.__globals__['CONFIGS']}/sweep/{option}.yaml")
    parser = OverridesParser.create()
    for group, values in sweep.hydra.sweeper.params.items():
        override = parser.parse_override(f"{group}={values}")
        if group != "seed" and override.is_choice_sweep():
            assert set(map(str, override.value().list)) <= set(options(group))


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["one by one", "joblib"]
)
def test_a_failed_job_costs_the_others_nothing_and_a_restart_repeats_nothing(tmp_path, capfd, launcher):
    sweep = [
        "-m",
        *launcher,
        *TINY,
        "optimizer.lr=1e-3,1e30,2e-3",
        "trainer.gradient_clip_val=null",
        f"hydra.sweep.dir={tmp_path}",
    ]
    assert invoke(train, *sweep) == 2
    results = [(tmp_path / job / "metrics.json").read_bytes() for job in ("0", "2")]
    assert "training loss is" in (tmp_path / "1/failure.txt").read_text()
    assert [run.state for run in read_sweep(tmp_path)] == ["finished", "failed", "finished"]
    (tmp_path / "2/metrics.json").unlink()
    capfd.readouterr()
    assert invoke(train, *sweep, "resume=true") == 2
    out = capfd.readouterr().out
    assert out.count("is finished") == 1
    assert out.count("resuming from") == 1
    assert [json.loads((tmp_path / job / "metrics.json").read_text())["test"] for job in ("0", "2")] == [
        json.loads(result)["test"] for result in results
    ]


@pytest.mark.slow
def test_a_search_reports_the_best_and_proposes_the_same_trials_again(tmp_path, capfd):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["sweep=optuna", *TINY, f"hydra.sweep.dir={tmp_path}"]
    assert invoke(train, *search, "hydra.sweeper.n_trials=2") == 0
    first = read_sweep(tmp_path)
    assert [run.state for run in first] == ["finished", "finished"]
    capfd.readouterr()
    assert invoke(train, *search, "hydra.sweeper.n_trials=3", "resume=true") == 0
    assert capfd.readouterr().out.count("is finished") == 2
    runs = read_sweep(tmp_path)
    assert [(run.settings, run.test) for run in runs[:2]] == [(run.settings, run.test) for run in first]
    bounds = [json.loads((run.folder.metrics).read_text())["val"]["bits_per_dim"]["value"] for run in runs]
    found = OmegaConf.load(tmp_path / "optimization_results.yaml")
    best = runs[bounds.index(min(bounds))].settings
    assert found.best_value == min(bounds)
    assert {name: str(value) for name, value in found.best_params.items()}.items() <= best.items()
    assert len(groups(runs)) == 3


def test_a_sweep_of_jobs_that_start_processes_is_refused(tmp_path, capsys):
    devices = ["trainer.devices=2", "trainer.strategy=ddp"]
    assert invoke(train, "-m", *TINY, *devices, "seed=1,2", f"hydra.sweep.dir={tmp_path}") == 2
    assert "a sweep cannot start 2 processes a job by itself" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_of_a_sweep_do_not_depend_on_those_before(tmp_path):
    """The same seed, first and second: the same numbers to the last digit."""
    for name, seeds in (("forth", "1,2"), ("back", "2,1")):
        assert invoke(train, "-m", *TINY, f"seed={seeds}", f"hydra.sweep.dir={tmp_path / name}") == 0
    for one, other in (("forth/0", "back/1"), ("forth/1", "back/0")):
        a, b = (json.loads((tmp_path / job / "metrics.json").read_text())["test"] for job in (one, other))
        assert a == b
