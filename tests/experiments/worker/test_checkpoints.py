"""State, best weights and metrics belong together, wherever the process is killed."""

import errno
import io
import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from experiments.errors import CheckpointDamaged, LeaseLost, StorageError
from experiments.grid.spec import RunSpec
from experiments.store import lease as leases
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.worker import checkpoints
from experiments.worker.checkpoints import RunCheckpoints
from results.reading.run_folder import RunFolder
from tcclip.config import AugmentConfig, Execution, TrainConfig
from tcclip.data.loader import Batch, TrainLoader
from tcclip.distributed import current_ranks
from tcclip.model import Model, build_model, create_model
from tcclip.model.checkpoints import load_checkpoint
from tcclip.train import Trainer
from tcclip.weights.weight_files import read_file
from tests.builders import make_result
from tests.experiments.sweeping import run_sweep, small_specs
from tests.tcclip.weights.made import Calls


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (spec,) = small_specs()
    return Ledger(tmp_path).folder(spec.run_id)


def model(seed: int) -> Model:
    return build_model(small_specs()[0].model, ["a", "b"], clip_weights="random", seed=seed)


def state(step: int, best: int) -> dict[str, Any]:
    return {"model": {}, "progress": {"step": step, "best_epoch": best}}


def kept(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in (folder.path / "checkpoints").iterdir())


def equal(one: Model, other: Model) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("where", ["before the state", "after the state", "in the weights"])
def test_a_kill_between_two_writes_leaves_a_pair(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.keep_best(model(1), 1)
        recorder.save_last(state(10, 1), wait=True)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            if where == "in the weights":  # their configuration is there already
                patch.setattr("tcclip.model.checkpoints.save_file", die)
            recorder.keep_best(model(2), 2)
            patch.setattr(
                checkpoints, "write_whole" if where == "before the state" else "remove", die
            )
            recorder.save_last(state(20, 2), wait=True)
    best = 2 if where == "after the state" else 1
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        assert recorder.load_last() == state(10 * best, best)
        assert kept(folder) == [f"best-000{best}.json", f"best-000{best}.safetensors", "last.pt"]
        found = model(0)
        load_checkpoint(found, folder.best_of(best))
        assert equal(found, model(best)), "these weights, not those of the epoch to be repeated"


def test_ranks_that_only_read_change_nothing(folder: RunFolder) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0), wait=True)
    Path(folder.best_of(1)).touch()
    before = kept(folder)
    with RunCheckpoints(folder, None) as recorder:
        assert recorder.load_last() == state(10, 0)
        recorder.log({"kind": "step", "step": 1})
    assert kept(folder) == before
    assert not os.path.exists(folder.metrics)  # noqa: PTH110


def test_readers_find_the_selected_weights(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="no selected weights"):
        _ = folder.best
    result = make_result(small_specs()[0]).model_dump(mode="json")
    result["selection"]["best_epoch"] = 12
    folder.path.mkdir(parents=True)
    Path(folder.result).write_text(json.dumps(result))
    assert folder.best == folder.path / "checkpoints" / "best-0012.safetensors"


@pytest.mark.parametrize(
    "damage",
    ["cut", "empty", "another file", "no progress", "a flipped bit", "a pipe", "runs code",
     "tensors as progress"],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_read_is_named_and_nothing_begins_anew(
    folder: RunFolder, damage: str
) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0) | {"model": {"w": torch.arange(1000.0)}}, wait=True)
        recorder.log({"kind": "step", "step": 10})
        path = Path(str(folder.last))
        data = path.read_bytes()
        if damage == "cut":
            path.write_bytes(data[:-100])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "another file":
            path.write_bytes(b"not a checkpoint")
        elif damage == "a flipped bit":
            where = data.index(torch.arange(1000.0).numpy().tobytes())
            path.write_bytes(data[: where + 50] + b"\\xff" + data[where + 51 :])
        elif damage == "a pipe":
            path.unlink()
            os.mkfifo(path)
        elif damage == "runs code":
            torch.save(state(10, 0) | {"model": Calls(path.parent / "ran")}, path)
        elif damage == "tensors as progress":
            torch.save({"progress": {"best_epoch": 0, "step": torch.zeros(1)}}, path)
        else:
            torch.save({"model": {}}, path)
        before = path.is_file() and path.read_bytes(), Path(str(folder.metrics)).read_bytes()
        with pytest.raises(
            CheckpointDamaged, match=rf"last.pt cannot be .*--rerun {folder.run_id}"
        ):
            recorder.load_last()
        found = path.is_file() and path.read_bytes(), Path(str(folder.metrics)).read_bytes()
        assert found == before and not (path.parent / "ran").exists()


def test_a_state_of_another_model_ends_the_run_with_its_name(
    again: tuple[Path, RunSpec], cache: Path
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    folder.result.unlink()
    good = read_file(folder.last, in_memory=True)
    del good["optimizer"]  # as earlier versions wrote a finished state
    name, tensor = max(good["model"].items(), key=lambda one: one[1].numel())
    parameters = len(good["model"])
    optimizer = {"param_groups": [{"params": list(range(parameters))}], "state": {}}
    started = build_model(spec.model, ["a", "b"], clip_weights="random", seed=0)
    trainer = Trainer(
        model=started, loader=cast(TrainLoader, OneStep()), config=spec.train, videos=64, seed=0,
        augment=spec.augment, execution=Execution(device="cpu"), ranks=current_ranks("cpu"),
        validate=lambda *_: {}, recorder=RunCheckpoints(folder, None),
    )  # fmt: skip
    for change, message in (
        ({"model": good["model"] | {"odd": tensor}}, "odd"),
        ({"model": list(good["model"])}, "AttributeError"),
        ({"progress": good["progress"] | {"step": 10**12}}, "step 1000000000000"),
        ({"progress": good["progress"] | {"odd": 1}}, "TypeError: .*odd"),
        ({"progress": good["progress"] | {"step": 1}}, "KeyError: 'optimizer'"),
        ({"progress": good["progress"] | {"step": 1}, "optimizer": optimizer}, "the optimiser's"),
    ):
        torch.save(good | change, folder.last)
        with pytest.raises(CheckpointDamaged, match=f"last.pt cannot be used .*{message}"):
            trainer.fit()
    torch.save(good | {"model": good["model"] | {name: tensor[:-1]}}, folder.last)
    failed = run_sweep([spec], out, cache).failed[spec.run_id]
    assert re.search(rf"Damaged: .*last.pt cannot be used .*{name}", failed), failed
    assert f"--rerun {spec.run_id}" in failed
    torch.save(good, folder.last)
    assert run_sweep([spec], out, cache).exit_code == 0


def lines(folder: RunFolder) -> list[int]:
    return [json.loads(line)["step"] for line in Path(folder.metrics).read_text().splitlines()]


def test_who_lost_its_run_writes_no_more_lines(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = claim(folder.path)
    with RunCheckpoints(folder, frozen) as recorder:
        recorder.log({"kind": "step", "step": 1})
        with claim(folder.path, alive=lambda holder: False) as lease:
            # It wakes up after its successor has begun.
            wakes = time.time() + 100
            monkeypatch.setattr(leases.time, "time", lambda: wakes)
            with pytest.raises(LeaseLost):
                recorder.log({"kind": "step", "step": 2})
            monkeypatch.undo()
            with RunCheckpoints(folder, lease) as other:
                other.log({"kind": "step", "step": 2})
    frozen.release()
    assert lines(folder) == [1, 2]


@pytest.mark.parametrize("where", ["while it writes", "after it wrote"])
def test_who_loses_its_run_within_a_checkpoint_takes_nothing_from_its_successor(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    frozen = claim(folder.path)
    with RunCheckpoints(folder, frozen) as recorder:
        recorder.keep_best(model(1), 1)
        recorder.save_last(state(10, 1), wait=True)
        taken = []

        def taken_over(*_: Any) -> None:
            with claim(folder.path, alive=lambda holder: False) as lease:
                with RunCheckpoints(folder, lease) as other:
                    other.keep_best(model(2), 2)
                    other.save_last(state(20, 2), wait=True)
                taken.append(lease)

        if where == "while it writes":

            def slow(state: Any, path: Path) -> None:
                monkeypatch.undo()
                taken_over()
                path.touch()

            monkeypatch.setattr(checkpoints, "_save", slow)
        else:
            write_whole = checkpoints.write_whole

            def late(*arguments: Any) -> None:
                monkeypatch.undo()
                taken_over()
                write_whole(*arguments)

            monkeypatch.setattr(checkpoints, "write_whole", late)
        with pytest.raises(LeaseLost):
            recorder.save_last(state(11, 1), wait=True)
        assert taken
        monkeypatch.undo()
    frozen.release()
    assert kept(folder) == ["best-0002.json", "best-0002.safetensors", "last.pt"]
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        assert recorder.load_last() == state(20, 2)


def test_a_torn_line_in_the_middle_ends_no_run(folder: RunFolder) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(3, 0), wait=True)
        whole = [json.dumps({"kind": "step", "step": step, "time": 1.0}) for step in (1, 2, 3, 4)]
        torn = "\n".join([whole[0], whole[1][:9] + whole[1], whole[2], whole[3], whole[3][:4]])
        Path(folder.metrics).write_text(torn)
        recorder.load_last()
    assert lines(folder) == [1, 3]


# ---- Writing beside the training ----


def test_training_goes_on_while_its_state_is_written(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), checkpoints._save

    def slow(state: dict[str, Any], path: Path) -> None:
        assert go.wait(30)
        write(state, path)

    def train(model: Model) -> None:
        for parameter in model.parameters():
            parameter.detach().add_(1)

    monkeypatch.setattr(checkpoints, "_save", slow)
    trained, best, saved, found = model(1), model(1), model(1), model(0)
    train(saved)
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.keep_best(trained, 1)
        train(trained)
        recorder.save_last(state(10, 1) | {"model": trained.state_dict()}, wait=False)
        train(trained)
        recorder.log({"kind": "step", "step": 11})
        assert not folder.last.exists()
        go.set()
    with RunCheckpoints(folder, None) as recorder:
        kept_state = recorder.load_last()
    assert kept_state is not None
    found.load_state_dict(kept_state["model"])
    assert equal(found, saved)
    load_checkpoint(found, folder.best_of(1))
    assert equal(found, best)


@pytest.mark.parametrize("found", ["at the next step", "at the next checkpoint", "at the end"])
def test_a_state_that_cannot_be_written_ends_the_training(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "_save", full)
    failed = pytest.raises(StorageError, match=r"cannot write .*last.pt: No space left")
    with claim(folder.path) as lease, failed, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0), wait=False)
        if found == "at the next checkpoint":
            recorder.save_last(state(11, 0), wait=False)
            pytest.fail("the first one is lost")
        while found == "at the next step":
            recorder.log({"kind": "step", "step": 11})
            time.sleep(0.01)


def test_a_state_that_cannot_be_written_does_not_hide_why_the_training_ended(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: Any) -> None:
        raise LeaseLost("another process took this run over")

    monkeypatch.setattr(checkpoints, "_save", lost)
    ended = pytest.raises(ZeroDivisionError, match="in the model")
    with claim(folder.path) as lease, ended, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0), wait=False)
        raise ZeroDivisionError("in the model")
    assert "the last checkpoint was not written: another process took this run" in caplog.text


class OneStep:
    """Stands for a `TrainLoader`: every epoch is one batch of four videos."""

    chunk_size = 4
    waited = 0.0

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        video = torch.full((4, 2, 3, 32, 32), epoch, dtype=torch.uint8)
        yield Batch(video, torch.tensor([0, 1, 0, 1]), torch.arange(4), [])


def test_fifty_epochs_that_each_are_the_best_write_less_than_three_states(
    folder: RunFolder,
) -> None:
    settings = {"epochs": 50, "warmup_epochs": 0, "global_batch": 4, "lr": 1e-3, "lr_min": 1e-5}
    config = TrainConfig.model_validate(settings | {"precision": "fp32", "mix": {"group": 4}})
    trained = create_model("clip", ["a", "b"], backbone="tiny", num_frames=2)
    tops = itertools.count()
    torch.set_num_threads(1)
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        trainer = Trainer(
            model=trained, loader=cast(TrainLoader, OneStep()), config=config, videos=4, seed=0,
            augment=AugmentConfig(), execution=Execution(device="cpu"), ranks=current_ranks("cpu"),
            validate=lambda *_: {"top1": float(next(tops))}, recorder=recorder,
        )  # fmt: skip
        before = bytes_written()
        assert trainer.fit().best_epoch == 50
        written = bytes_written() - before
    assert kept(folder) == ["best-0050.json", "best-0050.safetensors", "last.pt"]
    state = io.BytesIO()
    torch.save([trained.state_dict(), trainer.optimizer.state_dict()], state)
    assert written < 3 * state.tell()


def bytes_written() -> int:
    """What this process has given to the system to write, to files of any kind."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["wchar"])
