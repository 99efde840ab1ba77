"""Batches that fit: found and remembered on a GPU; halved, for the same global batch, elsewhere."""

import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.datasets.paths import DataPaths
from experiments.errors import EvaluationOutOfMemory, OutOfMemory
from experiments.grid.plan import Grid, expand
from experiments.store.ledger import Ledger
from experiments.worker import run
from experiments.worker.data import RunData
from experiments.worker.job import Job
from experiments.worker.memory import RememberedMicroBatch, detect_out_of_memory, reduction
from tcclip.config import Execution
from tcclip.distributed import Ranks
from tcclip.model import Model, build_model
from tests.experiments.sweeping import EXECUTION, numbers, run_sweep, small_specs


def hold(monkeypatch: pytest.MonkeyPatch, videos: int, *, training: bool, after: int = 0) -> None:
    """A device with memory for so many videos in training, or in testing, from a call on."""
    original, calls = Model.encode_video, [0]

    def limited(self: Any, video: torch.Tensor, **options: Any) -> Any:
        calls[0] += self.training == training
        if self.training == training and calls[0] > after and len(video) > videos:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, video, **options)

    monkeypatch.setattr(Model, "encode_video", limited)


def records(out: Path, run_id: str, kind: str) -> list[dict[str, Any]]:
    lines = Ledger(out).folder(run_id).metrics.read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["kind"] == kind]


def test_training_goes_on_with_a_smaller_micro_batch(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small_specs(models=("tc_clip", "vifi_clip"), train__epochs=1)
    eight = EXECUTION.model_copy(update={"micro_batch": 8})
    assert run_sweep([first], tmp_path / "eight", cache, eight).exit_code == 0
    hold(monkeypatch, 8, training=True)
    # Without a retry: it is no failed attempt.
    assert run_sweep([first], tmp_path / "out", cache).exit_code == 0
    assert numbers(tmp_path / "out", first) == numbers(tmp_path / "eight", first), "bit for bit"
    folder = Ledger(tmp_path / "out").folder(first.run_id)
    result = folder.read_result()
    assert result is not None
    assert (result.provenance.micro_batch, result.provenance.global_batch) == (8, 32)
    assert len(records(folder.path.parents[1], first.run_id, "step")) == 6
    assert [
        (one["step"], one["setting"], one["before"], one["after"])
        for one in records(tmp_path / "out", first.run_id, "memory")
    ] == [(0, "micro_batch", 32, 16), (0, "micro_batch", 16, 8)]
    log = folder.log.read_text()
    for batch, after in ((32, 16), (16, 8)):
        assert f"not enough memory for training with a micro-batch of {batch}: CUDA out" in log
        assert f"going on with {after}" in log
    assert not folder.failure.exists()
    # A run of another model finds out for itself, in the middle of its training. Auto is
    # as many small clips as 4 of the full size are large.
    hold(monkeypatch, 4, training=True, after=5)
    auto = EXECUTION.model_copy(update={"micro_batch": "auto"})
    assert run_sweep([second], tmp_path / "out", cache, auto).exit_code == 0
    result = Ledger(tmp_path / "out").folder(second.run_id).read_result()
    assert result is not None
    assert result.provenance.micro_batch == 4
    assert len(records(tmp_path / "out", second.run_id, "step")) == 6
    memory = records(tmp_path / "out", second.run_id, "memory")
    assert [one["before"] for one in memory] == [32, 16, 8]


def test_testing_goes_on_with_a_smaller_batch_after_the_training(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs(models=("clip",))
    hold(monkeypatch, 20, training=False)
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    folder = Ledger(tmp_path).folder(spec.run_id)
    assert "testing with an eval-batch of 64: CUDA out of memory" in folder.log.read_text()
    memory = records(tmp_path, spec.run_id, "memory")
    assert [(one["before"], one["after"]) for one in memory] == [(64, 32), (32, 16)]


def test_when_nothing_smaller_is_left_it_says_what_to_try(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs(train__epochs=1)
    hold(monkeypatch, 0, training=True)
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
        made = reduction(one, Execution(), OutOfMemory, micro_batch, "")
        return None if made is None else made.after

    assert [smaller(n) for n in (32, 16, 8, 4, 2, 1)] == [16, 8, 4, 2, 1, None]
    # 6 is not whole mixing groups of 4: the next size that is.
    assert smaller(12, global_batch=48) == 4


def test_a_smaller_test_batch_is_one_that_puts_fewer_videos_together() -> None:
    (spec,) = expand(Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(0,)))
    (full, *_) = expand(Grid("fully_supervised", models=("tc_clip",), seeds=(0,)))
    made = reduction(spec, Execution(), EvaluationOutOfMemory, 8, "x")
    assert made is not None
    assert (made.setting, made.after, made.cause) == ("eval_batch", 4, "x")
    assert reduction(spec, Execution(), EvaluationOutOfMemory, 1, "") is None
    # A tested video has 12 views and is one batch already; a validated one has a single view.
    assert {one.views.clips * one.views.crops for one in full.suites} == {12}
    made = reduction(full, Execution(), EvaluationOutOfMemory, 8, "")
    assert made is not None and made.after == 4
    tests = full.model_copy(update={"validation": ()})
    assert reduction(tests, Execution(), EvaluationOutOfMemory, 8, "") is None
    assert reduction(tests, Execution(), EvaluationOutOfMemory, 48, "") is not None


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), detect_out_of_memory("micro_batch", 4):
        raise RuntimeError("shapes differ")
    train, test = detect_out_of_memory("micro_batch", 4), detect_out_of_memory("eval_batch", 2)
    with pytest.raises(EvaluationOutOfMemory, match="testing with an eval-batch of 2"), train, test:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
    train = detect_out_of_memory("micro_batch", 4)
    message = "batch of 4: CUBLAS_STATUS_ALLOC_FAILED"
    with pytest.raises(OutOfMemory, match=message) as raised, train:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
    sent = pickle.loads(pickle.dumps(raised.value))
    assert (str(sent), sent.batch) == (str(raised.value), 4)


# ---- The micro-batch "auto" on a GPU ----


def size_of(size: int, calls: list[int]) -> Callable[[], int]:
    def measure() -> int:
        calls.append(size)
        return size

    return measure


def test_what_was_measured_is_remembered_for_its_kind(tmp_path: Path) -> None:
    sizes, calls = [1, 2, 4, 8, 16], list[int]()
    first = RememberedMicroBatch(tmp_path / "new", {"gpu": "A", "available_gib": 79})
    other = RememberedMicroBatch(tmp_path / "new", {"gpu": "A", "available_gib": 39})
    assert first.find(sizes, size_of(16, calls)) == 16
    assert other.find(sizes, size_of(8, calls)) == 8
    assert [one.find(sizes, size_of(1, calls)) for one in (first, other)] == [16, 8]
    assert calls == [16, 8]
    first.lower(8)
    first.lower(16)
    first.lower(None)
    assert first.find(sizes, size_of(1, calls)) == 8
    assert json.loads(first.file.read_text()) == {"micro_batch": 8, **first.kind}
    assert other.find([1, 2, 4], size_of(4, calls)) == 4, "8 makes another global batch"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"micro_batch": null}', "folder"])
def test_a_damaged_file_is_made_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    one = RememberedMicroBatch(tmp_path, {})
    if content == "folder":
        one.file.mkdir()
    else:
        one.file.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert one.find([1, 2], size_of(2, [])) == 2
    assert "it will be made anew" in caplog.text
    if content == "folder":
        assert "the micro-batch is not remembered" in caplog.text
    else:
        assert one.find([1, 2], size_of(1, [])) == 2


def two_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, **execution: Any
) -> tuple[RunData, Model, list[RememberedMicroBatch]]:
    """A run on the first of two GPUs: 16 videos fit, and 8 on the other."""
    (spec,) = small_specs()
    ranks = Ranks(0, 2, torch.device("cuda", 0))
    job = Job(
        spec=spec, out=tmp_path, data_paths=DataPaths(cache=cache), owner="",
        execution=Execution(workers=2, **execution),
    )  # fmt: skip
    data = RunData.load(job, Ranks(0, 1, torch.device("cpu")))
    made = list[RememberedMicroBatch]()

    def remembered(folder: Path, kind: dict[str, Any]) -> RememberedMicroBatch:
        made.append(RememberedMicroBatch(tmp_path / folder.name, kind))
        return made[-1]

    monkeypatch.setattr(run, "RememberedMicroBatch", remembered)
    monkeypatch.setattr(run, "available_memory", lambda device, share: 79)
    monkeypatch.setattr(run, "_measure", lambda data, model, sizes, limit: 16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    monkeypatch.setattr(Ranks, "gather", lambda ranks, value: [value, 8])
    model = build_model(spec.model, data.train.class_names)
    return replace(data, ranks=ranks), model, made


def test_the_ranks_take_the_smallest_of_their_micro_batches(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model, made = two_gpus(monkeypatch, tmp_path, cache)
    with run.micro_batch_that_fits(data, model) as fitting:
        assert fitting.job.execution == data.job.execution.model_copy(update={"micro_batch": 8})
    assert data.train_loader().chunk_size == 4
    assert fitting.train_loader().chunk_size == 8
    (one,) = made
    assert one.find([16], lambda: 0) == 16, "each GPU remembers its own"


@pytest.mark.parametrize("micro_batch", ["auto", 16])
def test_what_ran_out_of_memory_is_not_chosen_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: Any
) -> None:
    data, model, made = two_gpus(monkeypatch, tmp_path, cache)
    monkeypatch.setattr(Ranks, "gather", lambda ranks, value: [value])
    with run.micro_batch_that_fits(data, model) as fitting:
        assert fitting.job.execution.micro_batch == 16
    given = data.job.execution.model_copy(update={"micro_batch": micro_batch})
    data = replace(data, job=data.job.model_copy(update={"execution": given}))
    with pytest.raises(EvaluationOutOfMemory), run.micro_batch_that_fits(data, model):
        raise EvaluationOutOfMemory("in a validation", 8)
    assert made[0].find([16], lambda: 0) == 16
    with pytest.raises(OutOfMemory), run.micro_batch_that_fits(data, model) as fitting:
        assert fitting.job.execution.micro_batch == 16
        raise OutOfMemory("in a step", 16)
    assert made[0].find([8], lambda: 0) == 8


def test_nothing_is_measured_where_nothing_is_trained_or_on_a_cpu(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model, made = two_gpus(monkeypatch, tmp_path, cache)
    on_cpu = replace(data, ranks=Ranks(0, 1, torch.device("cpu")))
    untrained = data.job.spec.train.model_copy(update={"epochs": 0})
    spec = data.job.spec.model_copy(update={"train": untrained})
    tested = replace(data, job=data.job.model_copy(update={"spec": spec}))
    three = tested.job.execution.model_copy(update={"workers": 3})
    tested = replace(tested, job=tested.job.model_copy(update={"execution": three}))
    assert tested.train_loader().chunk_size == 1, "no global batch is made"
    with run.micro_batch_that_fits(tested, model) as fitting:
        assert fitting is tested
    # Small clips: as many as make up four of the full size, of those that the global batch takes.
    with run.micro_batch_that_fits(on_cpu, model) as fitting:
        assert fitting.job.execution.micro_batch == 16
    assert not made


def test_a_size_that_runs_out_of_memory_is_not_taken(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a GPU that is nearly full, where even a measurement fails."""
    measure = run._measure
    data, model, _ = two_gpus(monkeypatch, tmp_path, cache)
    on_cpu = replace(data, ranks=Ranks(0, 1, torch.device("cpu")))

    def peak(model: Model, size: int, *settings: Any) -> int:
        if size > 4:
            raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
        return 100 * size

    monkeypatch.setattr(run, "training_peak", peak)
    assert measure(on_cpu, model, [1, 2, 4, 8, 16], 10_000) == 4
    assert measure(on_cpu, model, [1, 2, 4, 8, 16], 250) == 2
    assert measure(on_cpu, model, [8, 16], 10_000) == 8, "the training then says what to try"
