"""What the formats promise beyond the golden files: widths, escapes, a page on its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import protocols
from results.report.report import report
from results.tables import html
from results.tables.formats import render
from results.tables.latex import escape
from results.tables.text_table import signed
from tests.results import builder
from tests.results.regenerate import GOLDEN


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_the_terminal_keeps_to_its_width(recorded: Path, name: str, width: int) -> None:
    text = render(report(recorded, name, checkpoint="both"), "terminal", width=width)
    tables = [line for line in text.splitlines() if "runs/" not in line]
    assert max(map(len, tables)) <= width


def test_the_wide_terminal_has_one_table(recorded: Path) -> None:
    shown = report(recorded, "zero_shot")
    assert render(shown, "terminal", width=160).count("Model ") == 1
    assert render(shown, "terminal", width=80).count("Model ") == 3


def test_colour_changes_no_character(recorded: Path) -> None:
    shown = report(recorded, "zero_shot")
    coloured = render(shown, "terminal", colour=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert coloured != plain
    lines = [line.rstrip() for line in plain.splitlines()]
    assert lines == render(shown, "terminal").splitlines()


def test_names_with_markup_are_escaped(tmp_path: Path) -> None:
    protocol = protocols.get("zero_shot", demo=True)
    of = builder.key(protocol, overrides=("model.name=<b>&|_%$#{}\\^~",))
    builder.write_failure(tmp_path, of, "a <script> | \\input{x} é漢\nsecond line")
    shown = report(tmp_path, "zero_shot", demo=True)
    assert "<script>" not in render(shown, "html") and "&lt;script&gt;" in render(shown, "html")
    assert all(line.count("|") == line.count("\\|") or line.startswith("|") for line in
               render(shown, "md").splitlines())  # fmt: skip
    assert render(shown, "latex").isascii()


def test_latex_escapes() -> None:
    assert escape("54.2 ± 0.7 – 5%_a\\") == r"54.2 $\pm$ 0.7 -- 5\%\_a\textbackslash{}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_latex_compiles_without_overfull_boxes(recorded: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "table.tex").write_text(render(report(recorded, name), "latex"))
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout


class _Page(HTMLParser):
    """Notes what a page would load from elsewhere, and the elements that stay open."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {v}" for n, v in attrs if n == "src" and v]
        self.loads += [tag] if tag in ("script", "link", "iframe") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = (GOLDEN / "zero_shot-demo.html").read_text()  # test_golden renders it
    page = _Page()
    page.feed(text)
    assert page.loads == [] and page.open == []
    assert text.count("<svg") == 1 + 3 * (1 + 3)  # curves; 3 splits: classes, 3 confusions
    assert "red circle bouncing" in text


def test_a_run_leads_to_its_page(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_curves", lambda *_: [])
    monkeypatch.setattr(html, "_classes", lambda *_: [])
    run_id = next(
        p.name for p in (recorded / "runs").iterdir() if p.name.startswith("zero_shot-moving")
    )
    shown = report(recorded, "zero_shot", demo=True, links={run_id: "http://localhost:5000/#/1"})
    assert f'<a href="http://localhost:5000/#/1"><code>{run_id}</code></a>' in render(shown, "html")


def test_a_broken_predictions_file_is_named(tmp_path: Path) -> None:
    protocol = protocols.get("zero_shot", demo=True)
    of = builder.key(protocol, model="clip", seed=0)
    folder = builder.write_result(tmp_path, builder.result(protocol, of, lambda *_: 6.0))
    path = folder / "predictions" / "moving_shapes" / "unseen1.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 cut")
    (folder / "metrics.jsonl").write_text('{"kind": "epoch", "epo')
    text = render(report(tmp_path, "zero_shot", demo=True), "html")
    assert "unseen1.parquet: not readable" in text
    assert "metrics.jsonl: 1 lines not readable" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-1.26, "-1.3")]
)
def test_differences_carry_their_sign_and_zero_has_none(value: float, text: str) -> None:
    assert signed(value) == text
