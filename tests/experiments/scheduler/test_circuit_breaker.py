"""What ends several runs with the same error is not tried on the runs like them."""

from pathlib import Path
from typing import Any

from experiments.scheduler.circuit_breaker import signature
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.summary import summary_lines
from experiments.store.ledger import Ledger
from tests.experiments.scheduler.scripted import WRONG, Scripted, by_name, grid, name, run


def test_an_error_that_ends_three_runs_stops_the_rest(tmp_path: Path) -> None:
    specs = grid(5)
    ends: dict[str, Any] = {
        f"tc_clip{n}": [AttemptError.of(RuntimeError(f"no driver in /tmp/x{n}: {n}"))]
        for n in range(5)
    }
    said: list[str] = []
    summary = run(specs, tmp_path, Scripted(**ends), retries=0, say=said.append)
    assert summary.exit_code == 1
    assert set(by_name(specs, summary.failed)) == {"tc_clip0", "tc_clip1", "tc_clip2"}
    assert by_name(specs, summary.left) == {"tc_clip3": "not started", "tc_clip4": "not started"}
    assert summary.halt is not None
    assert "RuntimeError: no driver in #: #" in summary.halt
    assert "none like them is started" in said[-1]
    assert summary_lines(summary, tmp_path, [])[0].startswith(
        "0 finished, 3 failed, 2 not started (3 "
    )
    states = Ledger(tmp_path).states(specs)
    assert [str(states[spec.run_id]) for spec in specs] == ["failed"] * 3 + ["planned"] * 2
    # What stopped them is gone: the same command does the rest.
    assert run(specs, tmp_path, Scripted()).exit_code == 0


def test_an_error_holds_back_only_runs_that_share_its_traits(tmp_path: Path) -> None:
    specs = grid(5, "tc_clip", "vifi_clip")
    ends: dict[str, Any] = {f"tc_clip{n}": [WRONG] for n in range(5)}
    summary = run(specs, tmp_path, Scripted(**ends))
    assert set(by_name(specs, summary.failed)) == {"tc_clip0", "tc_clip1", "tc_clip2"}
    assert set(by_name(specs, summary.left)) == {"tc_clip3", "tc_clip4"}
    assert len(summary.finished) == 5, "all of the other model"
    # One that fails the same way: then it is not the model's.
    ends = {name(spec): [WRONG] for spec in specs}
    summary = run(specs, tmp_path / "all", Scripted(**ends))
    assert set(by_name(specs, summary.failed)) == {"tc_clip0", "tc_clip1", "tc_clip2", "vifi_clip0"}
    assert len(summary.left) == 6


def test_a_run_that_finishes_in_between_closes_the_breaker(tmp_path: Path) -> None:
    specs = grid(6)
    ends: dict[str, Any] = {f"tc_clip{n}": [WRONG] for n in (0, 1, 3, 4)}
    summary = run(specs, tmp_path, Scripted(**ends))
    assert len(summary.failed) == 4
    assert not summary.left


def test_errors_are_the_same_up_to_what_belongs_to_one_run() -> None:
    one = signature("a-1", "E: a-1 at step 3 in /x/y.py: 0xdeadbeef")
    assert one == signature("b-2", "E: b-2 at step 41 in /z.py: 0x1")
    assert one != signature("b-2", "F: b-2 at step 41 in /z.py: 0x1")
