"""How runs are shown: what fits a terminal, and what is left out."""

import io
import json
import re
import time
from typing import Any

import pytest
from rich.console import Console

from experiments.monitor.display import status_line
from experiments.monitor.status_table import count_states, duration, print_statuses, status_text
from experiments.monitor.table import print_rows
from results.reading.run_folder import State
from results.reading.status import RunStatus

WHERE: dict[str, Any] = {"node": "gpu7", "device": "NVIDIA A100-SXM4-80GB", "workers": 4}


def run(number: int, state: State, **more: Any) -> RunStatus:
    return RunStatus(f"few_shot-ucf101-tc_clip-base-k16-s{number}-{number:010x}", state, **more)


@pytest.fixture
def rows() -> list[RunStatus]:
    """One of each kind."""
    return [
        run(0, State.RUNNING, **WHERE, epoch=3, epochs=50, loss=0.25, clips_per_second=612.34,
            top1=31.25, seconds_left=7200.0, gpu_hours=1.5, attempts=2),
        run(1, State.FAILED, **WHERE, attempts=1, error="ValueError: a | b\nmore",
            log="/out/run.log"),
        run(2, State.STALE, **WHERE, epoch=1, epochs=50, since=time.time() - 7200),
        run(3, State.PLANNED),
    ]  # fmt: skip


def text(rows: list[RunStatus], width: int | None = None, height: int | None = None) -> list[str]:
    return status_text(rows, width, height).plain.splitlines()


def test_a_wide_table_has_every_column(rows: list[RunStatus]) -> None:
    title, head, rule, running, failed, why, _stale, since, planned = text(rows, 160)
    assert title == "few_shot, 4 runs: 1 failed, 1 stale, 1 running, 1 planned; 1.5 GPU-hours"
    assert head.split() == ["run", "state", "node", "on", "epoch", "loss", "val", "%", "clips/s",
                            "left", "GPU-h", "attempts"]  # fmt: skip
    assert running.split() == ["ucf101-tc_clip-base-k16-s0", "running", "gpu7", "4", "x", "A100",
                               "3/50", "0.250", "31.2", "612.3", "2.0", "h", "1.5",
                               "2"]  # fmt: skip
    assert failed.split()[1] == "failed"
    assert why == "  ValueError: a | b"
    assert since.startswith("  no sign of life since 20")
    assert since.endswith("(2.0 h)")
    assert planned.split()[1] == "planned"
    assert set(rule) == {"─"}


@pytest.mark.parametrize("width", [25, 40, 60, 80, 120])
def test_a_narrow_table_names_the_columns_left_out(rows: list[RunStatus], width: int) -> None:
    lines = text(rows, width)
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("--format md has all") is (width < 120)
    states = "running|failed|stale|paused|finished|planned"
    assert len([line for line in lines if re.search(rf" ({states})( |$)", line)]) >= len(rows)
    if width == 80:
        assert lines[1].split() == ["run", "state", "epoch", "val", "%", "clips/s", "left", "GPU-h"]
        assert lines[-1] == "--format md has all; no room for: node, on, loss, attempts"


def test_of_very_many_runs_running_failed_and_latest_ones_are_shown(rows: list[RunStatus]) -> None:
    done = [run(10 + n, State.FINISHED, epoch=50, epochs=50, since=float(n)) for n in range(9000)]
    lines = text(done + rows, 100, 24)
    assert len(lines) <= 23
    assert [line.split()[1] for line in lines[3:5]] == ["running", "failed"]
    assert "9000 finished" in lines[0]
    assert [line.split()[0].rpartition("-s")[2] for line in lines[8:10]] == ["9009", "9008"]
    shown = sum("finished" in line for line in lines[3:-2])
    assert f"not shown: {9000 - shown} finished, 1 planned" in "\n".join(lines)


def test_runs_that_differ_only_in_settings_show_some_of_their_hash() -> None:
    ids = [f"few_shot-ucf101-tc_clip-base-k2-s0-{end}" for end in ("abcd000000", "abce000000")]
    names = [line.split()[0] for line in text([RunStatus(i, State.PLANNED) for i in ids])[3:]]
    assert names == ["ucf101-tc_clip-base-k2-s0-abcd", "ucf101-tc_clip-base-k2-s0-abce"]


@pytest.mark.parametrize("format", ["md", "json", "terminal"])
def test_what_is_piped_has_every_column(
    rows: list[RunStatus], format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_statuses(rows, Console(file=io.StringIO(), width=40), format)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    if format == "json":
        first, second, third, _ = json.loads(out)
        assert first["clips_per_second"] == 612.34
        assert second["error"] == "ValueError: a | b\nmore"
        assert second["log"] == "/out/run.log"
        assert third["since"].endswith("+00:00")
        return
    for part in ("4 x A100", "3/50", "0.250", "31.2", "612.3", "2.0 h", "1.5", "no sign of life"):
        assert part in out
    if format == "md":
        lines = out.splitlines()
        assert len(lines) == 2 + len(rows)
        assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}


def test_counts_and_durations() -> None:
    states = [State.FINISHED, State.FINISHED, State.STALE]
    assert count_states(states) == "3 runs: 2 finished, 1 stale"
    durations = [duration(seconds) for seconds in (4.4, 120, 7200, 200_000)]
    assert durations == ["4 s", "2 min", "2.0 h", "2.3 d"]


def test_text_tables_are_as_wide_as_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("title", ["a", "b", "c"], [["x" * 200, "é", "1"], ["y", "中文", "10"]], "terminal")
    title, head, rule, first, second = capsys.readouterr().out.splitlines()
    assert (title, head.split(), len(rule)) == ("title", ["a", "b", "c"], 200 + 2 + 4 + 2 + 2)
    assert first == "x" * 200 + "  é      1"
    assert second == "y" + " " * 201 + "中文  10"


def test_a_status_as_a_line(rows: list[RunStatus]) -> None:
    assert status_line(rows[0]) == (
        "few_shot-ucf101-tc_clip-base-k16-s0-0000000000: running, epoch 3/50, loss 0.250, "
        "val top-1 31.2 %, 612.3 clips/s, 2.0 h left"
    )
    assert status_line(rows[1]).endswith(": failed, ValueError: a | b")
