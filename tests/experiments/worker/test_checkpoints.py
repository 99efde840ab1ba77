"""State, best weights and metrics belong together, wherever the process is killed."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import CheckpointDamaged, LeaseLost
from experiments.store import lease as leases
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.worker import checkpoints
from experiments.worker.checkpoints import RunCheckpoints
from results.reading.run_folder import RunFolder
from tcclip.model import Model, build_model
from tcclip.model.checkpoints import load_checkpoint
from tests.builders import make_result
from tests.experiments.sweeping import small_specs


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
        recorder.save_best(model(1), 1)
        recorder.save_last(state(10, 1))
        with monkeypatch.context() as patch, pytest.raises(Killed):
            if where == "in the weights":  # their configuration is there already
                patch.setattr("tcclip.model.checkpoints.save_file", die)
            recorder.save_best(model(2), 2)
            patch.setattr(
                checkpoints, "write_whole" if where == "before the state" else "remove", die
            )
            recorder.save_last(state(20, 2))
    best = 2 if where == "after the state" else 1
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        assert recorder.load_last() == state(10 * best, best)
        assert kept(folder) == [f"best-000{best}.json", f"best-000{best}.safetensors", "last.pt"]
        found = model(0)
        load_checkpoint(found, folder.best_of(best))
        assert equal(found, model(best)), "these weights, not those of the epoch to be repeated"


def test_ranks_that_only_read_change_nothing(folder: RunFolder) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0))
        recorder.save_best(model(1), 1)
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


@pytest.mark.parametrize("damage", ["cut", "empty", "another file", "no progress", "a flipped bit"])
def test_a_checkpoint_that_cannot_be_read_is_named_and_nothing_begins_anew(
    folder: RunFolder, damage: str
) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(10, 0) | {"model": {"w": torch.arange(1000.0)}})
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
        else:
            torch.save({"model": {}}, path)
        before = path.read_bytes(), Path(str(folder.metrics)).read_bytes()
        with pytest.raises(
            CheckpointDamaged, match=rf"last.pt cannot be .*--rerun {folder.run_id}"
        ):
            recorder.load_last()
        assert (path.read_bytes(), Path(str(folder.metrics)).read_bytes()) == before


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
        recorder.save_best(model(1), 1)
        recorder.save_last(state(10, 1))
        taken = []

        def taken_over(*_: Any) -> None:
            with claim(folder.path, alive=lambda holder: False) as lease:
                with RunCheckpoints(folder, lease) as other:
                    other.save_best(model(2), 2)
                    other.save_last(state(20, 2))
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
            recorder.save_last(state(11, 1))
        assert taken
        monkeypatch.undo()
    frozen.release()
    assert kept(folder) == ["best-0002.json", "best-0002.safetensors", "last.pt"]
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        assert recorder.load_last() == state(20, 2)


def test_a_torn_line_in_the_middle_ends_no_run(folder: RunFolder) -> None:
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as recorder:
        recorder.save_last(state(3, 0))
        whole = [json.dumps({"kind": "step", "step": step, "time": 1.0}) for step in (1, 2, 3, 4)]
        torn = "\n".join([whole[0], whole[1][:9] + whole[1], whole[2], whole[3], whole[3][:4]])
        Path(folder.metrics).write_text(torn)
        recorder.load_last()
    assert lines(folder) == [1, 3]
