"""Sweeps: resuming them, and reports on runs in every state."""

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
    """Write the files of a run."""
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
    """2 × 3 jobs: 2 finished and 1 failed; 1 finished, 1 unfinished, 1 missing."""
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
    for name, mean in (("0", 3.0), ("1", 5.0), ("2", 99.0)):  # half of the draws are 0, half are ``mean``
        append_rows(tmp_path / name / "profile.csv", PROFILE, [(50, -8, 4, 1, 9.0, 9.0)])
        append_rows(tmp_path / name / "profile.csv", PROFILE, [(100, -8, -2, 5, 0.0, 0.0), (100, -2, 4, 5, mean, 0.0)])
    (tmp_path / "1/pictures").mkdir()
    Image.new("L", (80, 80), 128).save(tmp_path / "1/pictures/samples.png")
    return tmp_path


def test_read_sweep_lists_every_job(sweep):
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
    ("overrides", "missing"),
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
def test_read_sweep_lists_no_enormous_ranges(tmp_path, overrides, missing):
    make_run(tmp_path, "0", ["seed=1"], failure="gone")
    hydra = {"overrides": {"task": overrides.split()}, "sweeper": {"_target_": "BasicSweeper"}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), tmp_path / "multirun.yaml")
    assert [run.state for run in read_sweep(tmp_path)] == ["failed"] + missing * ["missing"]


def test_refused_command_keeps_the_settings_of_runs(sweep, capsys):
    """Hydra writes its own record of the command before it is refused."""
    before = read_sweep(sweep)
    assert invoke(train, "-m", "schedule=sigmoid,monotone", "seed=7", f"hydra.sweep.dir={sweep}") != 0
    assert "earlier run's result" in capsys.readouterr().err
    assert "schedule=sigmoid" in (sweep / "0/.hydra/overrides.yaml").read_text()
    after = {run.folder.root: run.settings for run in read_sweep(sweep) if run.folder is not None}
    assert after == {run.folder.root: run.settings for run in before if run.folder is not None}


def test_groups_average_over_finished_seeds(sweep):
    """3 and 4: mean 3.5, standard deviation 1/√2, standard error 1/2. One seed has no standard error."""
    cosine, linear = groups(read_sweep(sweep))  # the better mean first
    assert (cosine.label, linear.label) == ("schedule=cosine", "schedule=linear")
    assert linear.summary("bits_per_dim") == pytest.approx((3.5, 0.5, 0.01, 0.02))
    assert linear.summary("denoising_matching") == pytest.approx((1.75, 0.25, 0.01, 0.02))
    assert cosine.summary("bits_per_dim").mean == 3.25
    assert math.isnan(cosine.summary("bits_per_dim").se)


def test_repeated_seed_counts_once(tmp_path, capsys):
    """3 and 4, and 4 again: still 3.5 ± 0.5. The seed in the provenance counts, not the override."""
    rows = [("0", "1", 1, 3.0), ("1", "2", 2, 4.0), ("2", "0x2", 2, 4.0)]
    for name, override, seed, value in rows:
        make_run(tmp_path, name, [f"seed={override}"], (value, 1.0, 0.5, 1.5), (50,), provenance={"seed": seed})
    (group,) = groups(read_sweep(tmp_path))
    assert group.summary("bits_per_dim") == pytest.approx((3.5, 0.5, 0.01, 0.02))
    assert invoke(report, f"sweep={tmp_path}") == 0
    assert "| all | 3 of 3, seeds: 2 | 3.50 ± 0.50 |" in (tmp_path / "report/report.md").read_text()


@pytest.mark.parametrize(("override", "status"), [("seed=2", 2), ("data=other", 0)])
def test_groups_refuse_a_mean_over_different_data(tmp_path, capsys, override, status):
    """Refused if only the seed differs; otherwise a warning."""
    for name, setting, sha256 in (("0", "seed=1", "a"), ("1", override, "b")):
        facts = {"data": {"splits": {"test": {"sha256": sha256}}}}
        make_run(tmp_path, name, [setting], (3.0, 1.0, 0.5, 1.5), (50,), provenance=facts)
    assert invoke(report, f"sweep={tmp_path}") == status
    printed = capsys.readouterr()
    error, warning = "have the same settings but different data", "the runs are on different data"
    assert (error if status else warning) in " ".join((printed.err if status else printed.out).split())


def test_groups_compare_data_by_their_bytes(tmp_path):
    """The name of the data and the count of unreadable files do not matter."""
    for name, other in (("0", {"left_out": {}}), ("1", {"left_out": {"unreadable": 1}, "name": "a copy"})):
        facts = {"data": {"splits": {"test": {"sha256": "a"}}, **other}, "seed": name}
        make_run(tmp_path, name, [f"seed={name}"], (3.0, 1.0, 0.5, 1.5), provenance=facts)
    (group,) = groups(read_sweep(tmp_path))
    assert len(group.one_per_seed) == 2


def test_groups_sort_the_best_first_and_nan_last(tmp_path):
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
def test_damaged_curve_keeps_the_result(sweep, capsys, name, content):
    (sweep / "1" / name).write_text(content)
    assert invoke(report, f"sweep={sweep}") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "6 runs, 3 finished, 1 failed, 1 unfinished, 1 missing" in printed
    assert f"1/{name} cannot be read (" in printed.replace("- ", "-")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", json.dumps({"test": {term: {"value": 10**400, "mc_se": 1, "data_se": 1} for term in TERMS}})),
        ("metrics.json", json.dumps({"test": {term: {"value": "3 or 4", "mc_se": 1, "data_se": 1} for term in TERMS}})),
        ("overrides.yaml", "- 'a=${b'\n"),
    ],
)
def test_unreadable_job_is_failed_alone(sweep, capsys, name, content):
    (sweep / "1" / name).write_text(content)
    assert invoke(report, f"sweep={sweep}") == 0
    assert {run.state for run in read_sweep(sweep) if run.folder and run.folder.root.name == "1"} == {"failed"}
    assert "6 runs, 2 finished, 2 failed, 1 unfinished, 1 missing" in capsys.readouterr().out
    assert " cannot be read (" in (sweep / "report/runs.csv").read_text()


@pytest.mark.parametrize("name", ["report", "5", "multirun.yaml"])
@pytest.mark.parametrize("kind", ["sweep", "lineage"])
def test_link_out_of_a_sweep_is_refused(sweep, tmp_path_factory, capsys, name, kind):
    """Otherwise a report would show, or be written to, another folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (sweep / name).unlink(missing_ok=True)
    (sweep / name).symlink_to(elsewhere)
    lineage = ["lineage", f"runs={sweep}", f"hydra.run.dir={sweep}/page"]
    assert invoke(report, *([f"sweep={sweep}"] if kind == "sweep" else lineage)) == 2
    assert f"{name} is a link out of {sweep}" in capsys.readouterr().err
    assert not any(elsewhere.iterdir())


def test_sweep_report_lists_every_job_escaped(sweep, capsys):
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


def test_sweep_report_shows_warnings_and_flips(tmp_path, capsys):
    for name, settings, flip in (("0", "data.flip=true", True), ("1", "data.flip=false", False)):
        facts, sentences = {"data": {"flip": flip}}, ["trust it <not>\x1b"] if flip else []
        make_run(tmp_path, name, [settings], (3.0, 1.0, 0.5, 1.5), (50,), provenance=facts, warnings=sentences)
    assert invoke(report, f"sweep={tmp_path}") == 0
    printed = capsys.readouterr().out
    markup, text = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    for shown, sentence in ((printed, "<not>�"), (markup, "&lt;not&gt;�"), (text, "\\<not\\>�")):
        assert "data.flip=true, trained with flips" in shown
        assert "data.flip=false, trained" not in shown
        assert f"trust it {sentence}" in shown
        assert "over training seeds only" in " ".join(shown.split())


def test_sweep_report_escapes_foreign_settings(tmp_path, capsys):
    """In CSV, Markdown and on the console: a formula, a link and rich's markup; numbers stay numbers."""
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


def test_sweep_report_shows_variance_of_finished_runs(sweep):
    """The mean of (3/2)² and (5/2)²; the failed run and earlier steps do not count."""
    assert invoke(report, f"sweep={sweep}") == 0
    lines = (sweep / "report/report.md").read_text().splitlines()
    last = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines if line.startswith("| schedule")}
    assert last == {"schedule=linear": f"{(2.25 + 6.25) / 2:.3g}", "schedule=cosine": "—"}
    markup = (sweep / "report/report.html").read_text()
    assert len(re.findall(r"<figcaption[^>]*>schedule=\w+</figcaption>", markup)) == 1
    assert len(re.findall("data:image/png;base64,", markup)) == 1  # samples
    assert len(re.findall("<svg", markup)) == 3  # curves, profile, variance
    assert not re.search(r"(src|href)=\"(?!data:|#)", markup)


def test_sweep_report_refuses_bad_arguments(tmp_path, capsys):
    for arguments, message in (
        ([f"sweep={tmp_path}"], "no run of a sweep"),
        ([f"sweep={tmp_path}", "a=1"], "'a'"),
        ([], "say"),
    ):
        assert invoke(report, *arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", options("sweep"))
def test_sweep_yamls_name_existing_options(option):
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
def test_sweep_continues_after_a_failure_and_resumes(tmp_path, capfd, launcher):
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
def test_optuna_reports_the_best_and_repeats_its_trials(tmp_path, capfd):
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


def test_sweep_of_multi_process_jobs_is_refused(tmp_path, capsys):
    devices = ["trainer.devices=2", "trainer.strategy=ddp"]
    assert invoke(train, "-m", *TINY, *devices, "seed=1,2", f"hydra.sweep.dir={tmp_path}") == 2
    assert "a sweep cannot start 2 processes a job by itself" in capsys.readouterr().err


@pytest.mark.slow
def test_sweep_jobs_are_independent_of_their_order(tmp_path):
    """The same seed as first or second job: exactly the same numbers."""
    for name, seeds in (("forth", "1,2"), ("back", "2,1")):
        assert invoke(train, "-m", *TINY, f"seed={seeds}", f"hydra.sweep.dir={tmp_path / name}") == 0
    for one, other in (("forth/0", "back/1"), ("forth/1", "back/0")):
        a, b = (json.loads((tmp_path / job / "metrics.json").read_text())["test"] for job in (one, other))
        assert a == b
