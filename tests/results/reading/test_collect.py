"""Collecting: several output folders, remote locations, states of unfinished runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import protocols
from experiments.store.attempt_records import (
    record_failure,
    record_pause,
    record_start,
    record_stop,
)
from results.reading.collect import Collected, collect
from results.reading.run_folder import RunFolder
from results.report.report import report
from results.tables.formats import render
from tests.results import builder

PROTOCOL = protocols.get("zero_shot", demo=True)


def write(out: Path, seed: int, value: float = 50.0) -> Path:
    of = builder.key(PROTOCOL, seed=seed)
    return builder.write_result(out, builder.result(PROTOCOL, of, lambda *_: value))


def seeds(found: Collected) -> list[int]:
    return [result.key.seed for _, result in found.finished]


def test_several_folders_are_merged(tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 40.0)
    write(tmp_path / "b", 1, 60.0)
    shown = report([tmp_path / "a", tmp_path / "b"], "zero_shot", demo=True)
    ours = shown.rows[0].cells[0].ours
    assert ours is not None and ours.seeds is not None
    assert (ours.seeds.mean, ours.seeds.n) == (50.0, 2)


@pytest.mark.parametrize("file", ["result.json", "spec.json", "failure.json"])
def test_a_file_that_cannot_be_read_is_a_problem_of_its_run(tmp_path: Path, file: str) -> None:
    write(tmp_path, 0)
    folder = write(tmp_path, 1)
    key = json.loads((folder / "result.json").read_text())["key"]
    (folder / "spec.json").write_text(json.dumps({"key": key}))
    (folder / "result.json").unlink()
    (folder / file).unlink(missing_ok=True)
    (folder / file).mkdir()  # reading it is an error of the disk
    found = collect(tmp_path)
    assert seeds(found) == [0]
    (unfinished,) = found.unfinished
    assert unfinished.run_id == folder.name
    said = "".join(map(str, found.problems)) + str(unfinished)
    assert "cannot be read: Is a directory" in said
    assert "Is a directory" in render(report([tmp_path], "zero_shot", demo=True), "terminal")


def test_the_same_run_in_two_folders_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a", 0)
    write(tmp_path / "b", 0)
    found = collect([tmp_path / "a", tmp_path / "b"])
    assert seeds(found) == [0]
    (problem,) = found.problems
    assert problem.kind == "duplicate" and "counted once" in problem.message


def test_two_results_of_one_run_that_disagree_are_both_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 40.0)
    write(tmp_path / "b", 0, 60.0)
    write(tmp_path / "b", 1, 60.0)
    found = collect([tmp_path / "a", tmp_path / "b"])
    assert seeds(found) == [1]
    assert [one.kind for one in found.problems] == ["conflict"]
    assert [one.cause for one in found.unfinished] == ["results that disagree"]
    (problem,) = found.problems
    assert f"--rerun {builder.run_id(builder.key(PROTOCOL, seed=0))}" in problem.message
    assert problem.message.count("finished 2026-01-01T01:00:00+00:00 with commit 0000") == 2


def test_of_two_runs_of_a_point_with_other_lists_the_newer_counts(tmp_path: Path) -> None:
    """Corrected labels make another run; the table has its number, and says so."""
    old = builder.result(PROTOCOL, builder.key(PROTOCOL, seed=0), lambda *_: 40.0)
    new = builder.result(PROTOCOL, builder.key(PROTOCOL, seed=0), lambda *_: 60.0)
    for run_id, result, digest, day in (("old", old, "1", 1), ("new", new, "2", 2)):
        made = builder.provenance(
            digests={"own/val.txt": digest * 64, "own/labels.csv": "3" * 64},
            finished=f"2026-02-0{day}T01:00:00+00:00",
        )
        folder = tmp_path / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(
            result.model_copy(update={"run_id": run_id, "provenance": made}).model_dump_json()
        )
    found = collect(tmp_path)
    assert [result.run_id for _, result in found.finished] == ["new"]
    (problem,) = found.problems
    assert problem.file == "runs/old/result.json"
    assert "other lists, class names or packs than new, which is newer" in problem.message
    assert "own/val.txt" in problem.message and "labels" not in problem.message
    assert not found.unfinished
    # The lists are again as they were before: the sweep that asks for them shows their number.
    found = collect(tmp_path, asked_for=["old"])
    assert [result.run_id for _, result in found.finished] == ["old"]
    (problem,) = found.problems
    assert "than old, which was asked for and alone is used: own/val.txt" in problem.message


def test_two_runs_for_one_point_of_the_grid_say_which_to_delete(tmp_path: Path) -> None:
    old = builder.result(PROTOCOL, builder.key(PROTOCOL, seed=0), lambda *_: 40.0)
    old_folder = builder.write_result(tmp_path, old)
    later = {"finished": "2026-02-02T01:00:00+00:00", "git_commit": "b" * 40, "git_dirty": True}
    new = old.model_copy(update={"run_id": "a-new-id", "provenance": builder.provenance(**later)})
    folder = tmp_path / "runs" / "a-new-id"
    folder.mkdir()
    (folder / "result.json").write_text(new.model_dump_json())
    found = collect(tmp_path)
    messages = {one.file: one.message for one in found.problems}
    assert (
        "This one finished 2026-01-01T01:00:00+00:00 with commit 000000000000: the newest is "
        "a-new-id, so delete the folder of this one"
    ) in messages[f"runs/{old.run_id}/result.json"]
    assert (
        "finished 2026-02-02T01:00:00+00:00 with commit bbbbbbbbbbbb and changes: keep it and "
        "delete the folders of the others"
    ) in messages["runs/a-new-id/result.json"]
    # What the advice says, done: the point counts again.
    shutil.rmtree(old_folder)
    found = collect(tmp_path)
    assert not found.problems and [one.run_id for _, one in found.finished] == ["a-new-id"]


def test_finished_in_one_folder_is_finished(tmp_path: Path) -> None:
    write(tmp_path / "a", 0)
    builder.write_failure(tmp_path / "b", builder.key(PROTOCOL, seed=0), "out of memory")
    assert report([tmp_path / "b", tmp_path / "a"], "zero_shot", demo=True).complete


def test_a_remote_location_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path, 0)
    builder.write_failure(tmp_path, builder.key(PROTOCOL, seed=1), "out of memory")
    here = report(tmp_path, "zero_shot", demo=True)
    there = report(tmp_path.as_uri(), "zero_shot", demo=True)
    assert render(there, "md") == render(here, "md")
    with pytest.raises(FileNotFoundError, match="no such output folder"):
        collect((tmp_path / "none").as_uri())


def test_states_of_unfinished_runs(tmp_path: Path) -> None:
    states = {}
    for seed, (state, name, content) in enumerate(
        (
            ("planned", "run.log", ""),
            ("running", "lease-000001.json", builder.lease(time.time())),
            ("running", "lease-000012.json", builder.lease(time.time() + 20)),
            ("stale", "lease-000001.json", builder.lease(1.0)),
            ("stale", "lease-000001.json", "{"),
            ("stale", "metrics.jsonl", ""),
            ("failed", "failure.json", "{"),
        )
    ):
        folder = builder.write_spec(tmp_path, builder.key(PROTOCOL, seed=seed))
        (folder / name).write_text(content)
        if name == "lease-000012.json":  # of its predecessor, not removed yet
            (folder / "lease-000009.json").write_text(builder.lease(1.0))
        states[folder.name] = state
    assert {one.run_id: one.state for one in collect(tmp_path).unfinished} == states


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (["fail"], "failed"),
        (["fail", "start"], "stale"),
        (["fail", "start", "pause"], "paused"),
        (["pause", "fail"], "failed"),
        (["pause", "start"], "stale"),
        (["pause", "start", "stop"], "stopped"),
    ],
)
def test_a_report_and_the_ledger_see_the_same_state(
    tmp_path: Path, events: list[str], state: str
) -> None:
    path = builder.write_spec(tmp_path, builder.key(PROTOCOL, seed=0))
    (path / "metrics.jsonl").write_text("")
    folder = RunFolder(path)
    record = {
        "fail": lambda: record_failure(folder, "Boom", "Boom: it broke", "trace"),
        "start": lambda: record_start(folder),
        "pause": lambda: record_pause(folder, "paused after step 12"),
        "stop": lambda: record_stop(folder, "behind", {}),
    }
    for event in events:
        record[event]()
    (seen,) = collect(tmp_path).unfinished
    assert seen.state == folder.state() == state


def test_other_protocols_are_not_this_reports(tmp_path: Path) -> None:
    write(tmp_path, 0)
    other = builder.key(protocols.get("few_shot"), shots=2)
    builder.write_spec(tmp_path, other)
    found = collect(tmp_path, "zero_shot", demo=True)
    assert not found.unfinished and not found.problems and seeds(found) == [0]


def test_an_empty_folder_is_an_empty_report(tmp_path: Path) -> None:
    shown = report(tmp_path, "zero_shot", demo=True)
    assert not shown.complete and not shown.rows
    for format in ("terminal", "md", "json", "csv", "latex", "html"):
        assert render(shown, format)
    assert "No finished run." in render(shown, "md")


def test_a_report_imports_nothing_heavy(tmp_path: Path) -> None:
    write(tmp_path, 0)
    code = (
        "import sys; from results.report.report import report;"
        "from results.tables.formats import render;"
        "print(render(report(sys.argv[1], 'zero_shot', demo=True), 'md'));"
        "print(sorted({'torch', 'ray', 'mlflow', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().endswith("[]")
