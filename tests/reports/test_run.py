"""The page on a run: correct in every state of the run, self-contained, and escaped."""

import base64
import io
import json
import os
import re
from html.parser import HTMLParser

import pytest
from omegaconf import OmegaConf
from PIL import Image

from support.commands import invoke
from vdm.cli import report
from vdm.reports.page import Page, Picture, Section, html_of
from vdm.reports.table import Table
from vdm.runs.tables import PROFILE_COLUMNS as PROFILE
from vdm.runs.tables import SCHEDULE_COLUMNS as SCHEDULE
from vdm.runs.tables import append_rows
from vdm.terms import TERMS

EVIL = "<script>alert('x')</script>"


class Reader(HTMLParser):
    """Tags, addresses of loaded files, and text of a page."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.open, self.sources, self.text = [], [], [], []
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(tmp_path):
    """The files of a run that was stopped at step 100 of 200."""
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(["schedule=cosine", f"note={EVIL}"]), folder / ".hydra/overrides.yaml")
    OmegaConf.save(OmegaConf.create({"trainer": {"max_steps": 200}, "note": EVIL}), folder / "config.yaml")
    names = [f"val/{term}{suffix}" for term in TERMS for suffix in ("", "_mc_se", "_data_se")]
    rows = [[step, 3.0, *(x / step for x in range(1, 13))] for step in (50, 100)]
    append_rows(folder / "metrics.csv", ["step", "train/bits_per_dim", *names], rows)
    append_rows(folder / "profile.csv", PROFILE, [(100, -8, -2, 60, 2.0, 1.0), (100, -2, 4, 40, 1.0, 0.5)])
    append_rows(folder / "schedule.csv", SCHEDULE, [(0, 0.0, -8.0, 2981.0), (0, 1.0, 5.0, 0.0067)])
    (folder / "pictures").mkdir()
    for name in ("samples", "trajectory", "noising", "denoised", "samples_step_0000050", f"of_mine_{'&'}"):
        Image.new("L", (80, 80), 128).save(folder / f"pictures/{name}.png")
    return folder


def finish(folder, **more):
    test = {term: {"value": 1.5, "mc_se": 0.25, "data_se": 0.125} for term in TERMS}
    facts = {"weights": "ema", "checkpoint": "best.ckpt", "data": {"name": EVIL}}
    (folder / "metrics.json").write_text(json.dumps({"test": test, "provenance": facts, **more}))


def page(folder):
    assert invoke(report, f"run={folder}") == 0
    return (folder / "report/report.html").read_text()


def test_page_is_self_contained_and_escaped(run):
    finish(run, samples={"fid": {"value": 12.5, "n": 100, "sampler": EVIL}}, warnings=["not to be trusted & why"])
    markup = page(run)
    read = Reader(markup)
    assert read.open == []
    assert "script" not in read.tags
    assert "".join(read.text).count(EVIL) == 5  # heading, overrides, config, provenance, FID
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert "@import" not in markup
    assert all(target.startswith("#") for target in re.findall(r'(?:url\(|href=")([^)"]*)', markup))
    for source in read.sources:
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).verify()
    written = {path.stem for path in (run / "report").glob("*.png")}
    assert {"bound", "terms", "profile", "variance", "schedule", "samples", "trajectory", "noising", "denoised"} <= written
    assert len(read.sources) + read.tags.count("svg") == len(written)
    text = "".join(read.text)
    assert "finished: test 1.50 bits/dim, ± 0.25 (draws), ± 0.12 (examples)" in text
    assert re.search(r"total\s*1\.50\s*0\.25\s*0\.12\s*0\.010\s*0\.020\s*0\.030", text)  # validation has its own decimals
    assert "ema weights of best.ckpt" in text
    assert "not to be trusted & why" in text
    assert re.search(r"samples\.fid\.value\s*12\.5", text)


@pytest.mark.parametrize(
    ("state", "lead"),
    [("unfinished", "unfinished: step 100 of 200"), ("failed", "failed: <b>InvalidInput</b>: loss is nan")],
)
def test_page_without_a_result_shows_the_last_validation(run, state, lead):
    """The last validation, 1/100 … 3/100 bits/dim and errors, replaces the test."""
    if state == "failed":
        (run / "failure.txt").write_text("<b>InvalidInput</b>: loss is nan")
    markup = page(run)
    text = "".join(Reader(markup).text)
    assert lead in text
    assert f'class="state {state}"' in markup
    assert "validation at step 100; no test yet" in text
    assert re.search(r"total\s*0\.010\s*0\.020\s*0\.030", text)


def test_malformed_result_is_reported(run):
    (run / "metrics.json").write_text('{"test": {')
    assert "metrics.json cannot be read (JSONDecodeError" in "".join(Reader(page(run)).text)


def test_page_needs_the_config_only(tmp_path):
    OmegaConf.save(OmegaConf.create({"trainer": {"max_steps": 200}}), tmp_path / "config.yaml")
    assert "step 0 of 200" in page(tmp_path)


@pytest.mark.parametrize(("arguments", "message"), [([], "holds no run"), (["outpt_dir=x"], "'outpt_dir'")])
def test_page_without_a_run_is_refused(tmp_path, capsys, arguments, message):
    assert invoke(report, f"run={tmp_path}", *arguments) == 2
    assert message in capsys.readouterr().err


def test_html_drops_empty_sections_and_escapes_text():
    sections = [Section("nowhere"), Section("one", tables=[Table(["<i>"], [["&"]])], pictures=[Picture("a", '"<b>', b"x")])]
    markup = html_of(Page("<u>", sections))
    read = Reader(markup)
    assert "nowhere" not in markup
    assert not {"i", "b", "u"} & set(read.tags)
    assert 'alt="&#34;&lt;b&gt;"' in markup


def test_link_out_of_a_run_is_refused(run, tmp_path, capsys):
    """A foreign folder must not choose which of the reader's files a report shows."""
    (tmp_path / "secret").write_text("key")
    (run / "pictures/noising.png").unlink()
    (run / "pictures/noising.png").symlink_to(tmp_path / "secret")
    assert invoke(report, f"run={run}") == 2
    assert "is a link out of" in capsys.readouterr().err
    assert not (run / "report").exists()


def test_pipe_in_a_run_is_refused(run, capsys):
    """Reading a pipe would never end; a link to itself is harmless."""
    (run / "of_mine").symlink_to("of_mine")
    page(run)
    os.mkfifo(run / "metrics.json")
    assert invoke(report, f"run={run}") == 2
    assert "metrics.json is neither a file nor a folder" in capsys.readouterr().err


ESCAPES = "\x1b]52;c;ZXZpbA==\x07 \x1b[2J gone"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("failure.txt", ESCAPES),
        ("metrics.json", json.dumps({"test": {term: {ESCAPES: 1.0} for term in TERMS}})),
        ("config.yaml", json.dumps({"trainer": {"max_steps": ESCAPES}})),
        ("config.yaml", f"a: [{ESCAPES}"),
        (".hydra/overrides.yaml", json.dumps([f"note={ESCAPES}"])),
    ],
)
def test_reports_remove_terminal_escapes(run, name, content, capsys):
    """Reports on the run, and on a sweep of it."""
    (run / name).write_text(content)
    for argument in (f"run={run}", f"sweep={run.parent}"):
        invoke(report, argument)
        printed = capsys.readouterr()
        assert not {"\x1b", "\x07"} & set(printed.out + printed.err)
    assert not any("\x1b" in path.read_text() for path in run.parent.rglob("report/report.*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".hydra/overrides.yaml", b"{"),
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"{}"),
        ("metrics.csv", b"step,train/bits_per_dim\nx,y\n"),
        ("metrics.csv", b"step,train/bits_per_dim\n1" + 400 * b"0" + b",1\n"),
        ("metrics.json", b'{"test": [1]}'),
        ("failure.txt", b"\xff\xfe\xff"),
        ("pictures/samples_step_x.png", b"junk"),
        ("pictures/samples.png", b"%!PS-Adobe-3.0 EPSF-3.0"),
    ],
)
def test_damaged_run_is_shown_or_refused_in_one_line(run, name, content, capsys):
    (run / name).write_bytes(content)
    status, printed = invoke(report, f"run={run}"), capsys.readouterr()
    assert status in (0, 2)
    assert status != 2 or len(printed.err.strip().splitlines()) == 1
