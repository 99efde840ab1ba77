"""Too little memory: half the micro-batch, twice the accumulation, the same global batch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import EvaluationOutOfMemory, OutOfMemory
from experiments.grid.plan import Grid, expand
from experiments.store.ledger import Ledger
from experiments.worker.out_of_memory import detect_out_of_memory, reduction
from tcclip.config import Execution
from tcclip.model import Model
from tests.experiments.sweeping import EXECUTION, numbers, run_sweep, small_specs


def hold(monkeypatch: pytest.MonkeyPatch, method: str, videos: int, after: int = 0) -> None:
    """A device on which `method` of a model has memory for so many videos, from a call on."""
    original, calls = getattr(Model, method), [0]

    def limited(self: Any, video: torch.Tensor) -> Any:
        calls[0] += 1
        if calls[0] > after and len(video) > videos:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, video)

    monkeypatch.setattr(Model, method, limited)


def records(out: Path, run_id: str, kind: str) -> list[dict[str, Any]]:
    lines = Ledger(out).folder(run_id).metrics.read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["kind"] == kind]


def test_training_goes_on_with_a_smaller_micro_batch(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small_specs(models=("tc_clip", "vifi_clip"), train__epochs=1)
    eight = EXECUTION.model_copy(update={"micro_batch": 8})
    assert run_sweep([first], tmp_path / "eight", cache, eight).exit_code == 0
    hold(monkeypatch, "forward", 8)
    # Without a retry: it is no failed attempt.
    assert run_sweep([first], tmp_path / "out", cache).exit_code == 0
    assert numbers(tmp_path / "out", first) == numbers(tmp_path / "eight", first), "bit for bit"
    folder = Ledger(tmp_path / "out").folder(first.run_id)
    result = folder.read_result()
    assert result is not None
    assert (result.provenance.micro_batch, result.provenance.global_batch) == (8, 32)
    assert len(records(folder.path.parents[1], first.run_id, "step")) == 12
    assert [
        (one["step"], one["setting"], one["before"], one["after"])
        for one in records(tmp_path / "out", first.run_id, "memory")
    ] == [(0, "micro_batch", 32, 16), (0, "micro_batch", 16, 8)]
    log = folder.log.read_text()
    for batch, after in ((32, 16), (16, 8)):
        assert f"not enough memory for training with a micro-batch of {batch}: CUDA out" in log
        assert f"going on with {after}" in log
    assert not folder.failure.exists()
    # A run of another model finds out for itself, in the middle of its training.
    hold(monkeypatch, "forward", 4, after=20)
    assert run_sweep([second], tmp_path / "out", cache, eight).exit_code == 0
    result = Ledger(tmp_path / "out").folder(second.run_id).read_result()
    assert result is not None
    assert result.provenance.micro_batch == 4
    assert len(records(tmp_path / "out", second.run_id, "step")) == 12


def test_testing_goes_on_with_a_smaller_batch_after_the_training(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs(models=("clip",))
    hold(monkeypatch, "encode_video", 20)
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    folder = Ledger(tmp_path).folder(spec.run_id)
    assert "testing with an eval-batch of 64: CUDA out of memory" in folder.log.read_text()
    memory = records(tmp_path, spec.run_id, "memory")
    assert [(one["before"], one["after"]) for one in memory] == [(64, 32), (32, 16)]


def test_when_nothing_smaller_is_left_it_says_what_to_try(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs(train__epochs=1)
    hold(monkeypatch, "forward", 0)
    two = EXECUTION.model_copy(update={"micro_batch": 2})
    summary = run_sweep([spec], tmp_path, cache, two)
    (cause,) = summary.failed.values()
    assert cause.startswith("OutOfMemory: not enough memory for training with a micro-batch of 1:")
    assert "execution.activation_checkpointing=true" in cause
    assert summary.attempts == {spec.run_id: 1}


def test_a_smaller_batch_makes_the_same_global_batch() -> None:
    (spec,) = expand(Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(0,)))

    def smaller(micro_batch: int, **settings: Any) -> int | None:
        train = spec.train.model_copy(update=settings)
        one = spec.model_copy(update={"train": train})
        made = reduction(one, Execution(micro_batch=micro_batch), OutOfMemory, "")
        return None if made is None else made.after

    assert [smaller(n) for n in (32, 16, 8, 4, 2, 1)] == [16, 8, 4, 2, 1, None]
    # 6 is not whole mixing groups of 4: the next size that is.
    assert smaller(12, global_batch=48) == 4


def test_a_smaller_test_batch_is_one_that_puts_fewer_videos_together() -> None:
    (spec,) = expand(Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(0,)))
    (full, *_) = expand(Grid("fully_supervised", models=("tc_clip",), seeds=(0,)))
    made = reduction(spec, Execution(eval_batch=8), EvaluationOutOfMemory, "x")
    assert made is not None
    assert (made.setting, made.after, made.cause) == ("eval_batch", 4, "x")
    assert reduction(spec, Execution(eval_batch=1), EvaluationOutOfMemory, "") is None
    # A tested video has 12 views and is one batch already; a validated one has a single view.
    assert {one.views.clips * one.views.crops for one in full.suites} == {12}
    made = reduction(full, Execution(eval_batch=8), EvaluationOutOfMemory, "")
    assert made is not None and made.after == 4
    tests = full.model_copy(update={"validation": ()})
    assert reduction(tests, Execution(eval_batch=8), EvaluationOutOfMemory, "") is None
    assert reduction(tests, Execution(eval_batch=48), EvaluationOutOfMemory, "") is not None


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), detect_out_of_memory("micro_batch", 4):
        raise RuntimeError("shapes differ")
    train, test = detect_out_of_memory("micro_batch", 4), detect_out_of_memory("eval_batch", 2)
    with pytest.raises(EvaluationOutOfMemory, match="testing with an eval-batch of 2"), train, test:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
    train = detect_out_of_memory("micro_batch", 4)
    with pytest.raises(OutOfMemory, match="batch of 4: CUBLAS_STATUS_ALLOC_FAILED"), train:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
