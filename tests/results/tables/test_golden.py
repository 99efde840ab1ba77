"""The recorded reports, byte for byte. To record them anew: python -m tests.results.regenerate."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from results.tables.formats import write
from tests.results import regenerate

GOLDEN = sorted(p.name for p in regenerate.GOLDEN.iterdir() if p.name != "versions.json")


@pytest.fixture(scope="module")
def written(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for one in regenerate.reports(recorded):
        for path in write(one, folder):
            path.write_text(path.read_text().replace(str(recorded), "OUT"))
    return folder


@pytest.mark.parametrize("name", GOLDEN)
def test_a_format_is_byte_for_byte_the_recorded_one(written: Path, name: str) -> None:
    ours, golden = (written / name).read_bytes(), (regenerate.GOLDEN / name).read_bytes()
    if name.endswith(".html") and not _same_plots():
        ours, golden = _without_plots(ours), _without_plots(golden)
    assert ours == golden, f"{name} differs; if it should: python -m tests.results.regenerate"


def test_every_format_of_every_report_is_recorded(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == GOLDEN
    assert len(GOLDEN) == 6 * 6


def _same_plots() -> bool:
    versions = json.loads((regenerate.GOLDEN / "versions.json").read_text())
    return bool(versions == regenerate.versions())


def _without_plots(page: bytes) -> bytes:
    return re.sub(b"<svg.*?</svg>", b"", page, flags=re.DOTALL)
