"""The recorded reports, byte for byte. To record them anew: python -m tests.results.regenerate."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from results.tables.formats import write
from tests.results import records, regenerate


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("report")
    records.write(out)
    for one in regenerate.reports(out):
        for path in write(one, folder):
            path.write_text(path.read_text().replace(str(out), "OUT"))
    return folder


def test_the_recorded_runs_are_about_two_hundred(tmp_path: Path) -> None:
    records.write(tmp_path)
    assert 190 <= sum(1 for _ in (tmp_path / "runs").glob("*/result.json")) <= 210


@pytest.mark.parametrize("name", sorted(p.name for p in regenerate.GOLDEN.glob("*.[!j]*")))
def test_a_format_is_byte_for_byte_the_recorded_one(written: Path, name: str) -> None:
    ours, recorded = (written / name).read_text(), (regenerate.GOLDEN / name).read_text()
    if name.endswith(".html") and not _same_plots():
        ours, recorded = _without_plots(ours), _without_plots(recorded)
    assert ours == recorded, f"{name} differs; if it should: python -m tests.results.regenerate"


@pytest.mark.parametrize(
    "name", sorted(p.name for p in regenerate.GOLDEN.glob("*.json") if p.name != "versions.json")
)
def test_json_is_byte_for_byte_the_recorded_one(written: Path, name: str) -> None:
    assert (written / name).read_bytes() == (regenerate.GOLDEN / name).read_bytes()


def test_every_format_of_every_report_is_recorded(written: Path) -> None:
    recorded = {path.name for path in regenerate.GOLDEN.iterdir()} - {"versions.json"}
    assert {path.name for path in written.iterdir()} == recorded
    assert len(recorded) == 5 * 6


def _same_plots() -> bool:
    recorded = json.loads((regenerate.GOLDEN / "versions.json").read_text())
    return bool(recorded == regenerate.versions())


def _without_plots(page: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
