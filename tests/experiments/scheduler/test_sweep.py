"""Real small sweeps: files, going on, and what a killed process leaves behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import cli
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from results.reading.holder import lease_files
from results.reading.run_folder import State
from tests.experiments.sweeping import (
    EVERY_STEP,
    EXECUTION,
    break_list,
    copy_cache,
    fork,
    kill_once,
    numbers,
    run_sweep,
    small_specs,
)
from tests.places import ROOT


def test_a_run_leaves_the_files_of_a_run_folder(finished: tuple[Path, RunSpec]) -> None:
    out, spec = finished
    folder = Ledger(out).folder(spec.run_id)
    files = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*.*")}
    # The best checkpoint is a pair: weights, and the configuration they are for.
    assert files >= {
        "spec.json", "metrics.jsonl", "run.log", "result.json", "checkpoints/last.pt",
        f"checkpoints/{folder.best.name}",
        *(f"predictions/moving_shapes/unseen{i}.parquet" for i in (1, 2, 3)),
    }  # fmt: skip
    kept = sorted(name for name in files if "best-" in name)
    weights = f"checkpoints/{folder.best.name}"
    assert kept == [weights.replace(".safetensors", ".json"), weights], "and no other epoch's"
    assert not [name for name in files if "tmp" in name]
    assert not lease_files(folder.path)
    assert not folder.failure.exists()


def test_every_number_recomputes_from_the_kept_scores(finished: tuple[Path, RunSpec]) -> None:
    out, spec = finished
    folder = Ledger(out).folder(spec.run_id)
    result = folder.read_result()
    assert result is not None
    assert {m.split for m in result.measurements} == {"unseen1", "unseen2", "unseen3"}
    assert {(m.weights, m.checkpoint) for m in result.measurements} == {
        (w, c) for w in ("raw", "ensembled") for c in ("best", "last")
    }
    for one in result.measurements:
        table = pq.read_table(folder.predictions(one.suite, one.split)).to_pandas()
        rows = table[(table.weights == one.weights) & (table.checkpoint == one.checkpoint)]
        if rows.empty:  # best and last are the same epoch: kept once
            rows = table[(table.weights == one.weights) & (table.checkpoint == "last")]
        assert len(rows) == one.videos == rows.video.nunique() == 16
        k = {"top1": 1, "top5": 5}[one.metric]
        hits = [
            label in sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]
            for label, scores in zip(rows.label, rows.scores, strict=True)
        ]
        assert one.value == pytest.approx(100 * sum(hits) / len(hits))


def test_the_same_sweep_again_does_nothing(again: tuple[Path, RunSpec], cache: Path) -> None:
    out, spec = again
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run_sweep([spec], out, cache).finished == (spec.run_id,)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_a_result_that_was_cut_is_made_again_from_the_last_checkpoint(
    again: tuple[Path, RunSpec], cache: Path
) -> None:
    out, spec = again
    folder, expected = Ledger(out).folder(spec.run_id), numbers(out, spec)
    folder.result.write_text(folder.result.read_text()[:100])
    assert folder.state() is State.STALE
    assert run_sweep([spec], out, cache).exit_code == 0
    assert numbers(out, spec) == expected


def test_a_killed_sweep_goes_on_to_the_same_numbers(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    out, spec = finished
    folder = Ledger(tmp_path).folder(spec.run_id)
    process = fork(run_sweep, small_specs(), tmp_path, cache, EVERY_STEP)
    # In the second epoch; the state of step 6 is there.
    kill_once(process, lambda: _steps(folder.metrics) >= 8)
    assert folder.state() is State.STALE
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    assert numbers(tmp_path, spec) == numbers(out, spec)
    assert _steps(folder.metrics) == 12, "every step is written down once"
    assert int(re.findall(r"goes on from step (\d+)", folder.log.read_text())[-1]) >= 6


def test_status_and_report_agree_at_once_that_a_killed_run_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (spec,) = small_specs()
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    path = ledger.folder(spec.run_id).path

    def printed(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tcclip", *arguments, "--out", str(tmp_path)])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        return capsys.readouterr().out

    def states() -> tuple[str, bool, bool]:
        (run,) = json.loads(printed("status", "--format", "json"))
        report = printed("report", "zero_shot", "--demo", "--format", "json")
        return run["state"], '"running"' in report, '"stale' in report

    code = f"""
import time
from pathlib import Path
from experiments.store.lease import claim
claim(Path({str(path)!r}))
print("claimed", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None and process.stdout.readline() == b"claimed\n"
        assert states() == ("running", True, False)
        process.kill()
    assert states() == ("stale", False, True)


def _steps(metrics: Path) -> int:
    if not metrics.exists():
        return 0
    return sum(line.startswith('{"kind": "step"') for line in metrics.read_text().splitlines())


def test_a_corrupt_test_video_fails_its_run_with_its_name(tmp_path: Path, cache: Path) -> None:
    own = copy_cache(cache, tmp_path / "cache")
    name = (own / "moving_shapes/splits/unseen2.txt").read_text().split()[0]
    video = own / "moving_shapes/videos" / name
    video.write_bytes(bytes(video.stat().st_size))
    specs = small_specs(models=("clip",))
    summary = run_sweep(specs, tmp_path / "out", own)
    ((run_id, cause),) = summary.failed.items()
    assert summary.exit_code == 1
    assert cause.startswith("TooManyUnreadable: moving_shapes unseen2: 1 of 16 videos")
    assert name in cause
    folder = Ledger(tmp_path / "out").folder(run_id)
    assert folder.state() is State.FAILED
    assert not folder.result.exists()
    # Allowed, it is counted as wrong and named.
    lenient = EXECUTION.model_copy(update={"max_unreadable": 0.1})
    assert run_sweep(specs, tmp_path / "out", own, lenient).exit_code == 0
    result = folder.read_result()
    assert result is not None
    assert result.provenance.videos_unreadable == 1
    assert name in result.provenance.unreadable[0]
    assert {m.split: m.unreadable for m in result.measurements} == {
        "unseen1": 0, "unseen2": 1, "unseen3": 0,
    }  # fmt: skip
    assert not folder.failure.exists()


def test_a_corrupt_validation_video_counts_as_one_that_is_tested_on(
    tmp_path: Path, cache: Path
) -> None:
    own = copy_cache(cache, tmp_path / "cache")
    (spec,) = small_specs(train__epochs=1)
    name = (own / "moving_shapes" / spec.validation[0].split.annotations).read_text().split()[0]
    video = own / "moving_shapes/videos" / name
    video.write_bytes(bytes(video.stat().st_size))
    (cause,) = run_sweep([spec], tmp_path / "out", own).failed.values()
    split = spec.validation[0].split.name
    assert cause.startswith(f"TooManyUnreadable: moving_shapes {split}: 1 of ") and name in cause
    lenient = EXECUTION.model_copy(update={"max_unreadable": 0.1})
    assert run_sweep([spec], tmp_path / "out", own, lenient).exit_code == 0
    result = Ledger(tmp_path / "out").folder(spec.run_id).read_result()
    assert result is not None and name in result.provenance.unreadable[0]


def test_a_broken_annotation_line_is_named(tmp_path: Path, cache: Path) -> None:
    own = copy_cache(cache, tmp_path / "cache")
    break_list(own)
    summary = run_sweep(small_specs(models=("clip",)), tmp_path / "out", own)
    (cause,) = summary.failed.values()
    assert "unseen1.txt:1: label" in cause


def test_a_diverging_loss_stops_before_the_weights_are_touched(tmp_path: Path, cache: Path) -> None:
    specs = small_specs(train__lr=1e30)
    summary = run_sweep(specs, tmp_path, cache)
    (cause,) = summary.failed.values()
    assert cause.startswith("NonFiniteLoss: loss nan at optimiser step")
    failure = json.loads(Ledger(tmp_path).folder(specs[0].run_id).failure.read_text())
    assert "Traceback" in failure["traceback"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--executor", "lcoal"),
        ("--executor", "local", "--workers-per-run", "2"),
        ("--executor", "local", "--gpus-per-worker", "0.5"),
    ],
)
def test_a_mistake_in_the_command_deletes_nothing(
    finished: tuple[Path, RunSpec],
    wrong: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, spec = finished
    before = Ledger(out).folder(spec.run_id).result.read_bytes()
    changed = [part for one in spec.key.overrides for part in ("--set", one)]
    command = ["tcclip", "sweep", "zero_shot", "--demo", "--seeds", "0", *changed]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out), "--rerun", "all", *wrong])
    with pytest.raises(SystemExit, match="2"):
        sys.exit(cli.main())
    assert "--executor" in capsys.readouterr().err
    assert Ledger(out).folder(spec.run_id).result.read_bytes() == before


@pytest.mark.slow
def test_a_run_imports_nothing_that_only_compiling_needs(tmp_path: Path, cache: Path) -> None:
    """It takes longer than all else that a worker imports; torch does it on slight provocation."""
    code = f"""
import sys
from pathlib import Path
from tests.experiments.sweeping import run_sweep, small_specs
assert run_sweep(small_specs(), Path({str(tmp_path)!r}), Path({str(cache)!r})).exit_code == 0
print([name for name in ("sympy", "torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
