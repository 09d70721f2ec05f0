"""Console tables and lists: complete at any width, rounded to their errors."""

import pytest

from vdm.estimate import Estimate
from vdm.reports import console
from vdm.reports.table import Table

WIDE = Table(
    ("", "runs", "total [bits/dim]", "denoising matching", "[b]one-t variance"),
    [
        ("schedule=monotone, times=stratified", "2 of 3", "1.742 ± 0.003", "1.70 ± 0.02", "3.14"),
        ("schedule=monotone, times=uniform", "3 of 3", "1.751 ± 0.003", "1.71 ± 0.02", "[/red]"),
    ],
    "a title that says what the numbers below are about",
    "a caption with more words than are good for a table of this kind, if the terminal is narrow",
)
OVER_T = Table(("T", "literal (1.47), not the bound"), [("5", "485.2"), ("300", "78.9")], "over T", text_columns=0)


def printed(part, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    console.show(part)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 40, 80, 112, 300])
@pytest.mark.parametrize("table", [WIDE, OVER_T], ids=["text first", "numbers alone"])
def test_table_shows_every_cell_at_any_width(table, width, capsys, monkeypatch):
    text = printed(table, width, capsys, monkeypatch)
    assert "…" not in text
    for row in table.rows:
        assert all(cell in text for cell in row)
    words = set(text.replace("│", " ").split())
    for part in (table.title, table.caption, *table.headings):
        assert set(part.split()) <= words


@pytest.mark.parametrize("width", [80, 112])
def test_table_becomes_blocks_on_a_narrow_console(width, capsys, monkeypatch):
    lines = printed(WIDE, width, capsys, monkeypatch).splitlines()
    rows = [line for line in lines if "schedule=monotone, times=uniform" in line and "1.751 ± 0.003" in line]
    assert bool(rows) == (width == 112)
    assert not rows or max(map(len, lines[:7])) <= width


def test_bound_sentence_rounds_to_its_errors():
    sentence = console.bound_sentence("test", Estimate(1.74231, 0.009, 0.0223))
    assert sentence == "test 1.742 bits/dim, ± 0.009 (draws), ± 0.022 (examples)"


def test_pictures_listing_counts_samples_over_training(tmp_path):
    for name in ("samples", "noising", "samples_step_0000010", "samples_step_0000020"):
        (tmp_path / f"{name}.png").touch()
    *_, noising, samples, over_training = console.pictures_listing(tmp_path).splitlines()
    assert (noising.strip(), samples.strip()) == (f"{tmp_path}/noising.png", f"{tmp_path}/samples.png")
    assert over_training.strip() == f"{tmp_path}/samples_step_*.png (2)"
