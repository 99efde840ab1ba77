"""Interrupted training goes on to the numbers of an uninterrupted one, bit for bit."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.worker.data import RunData
from experiments.worker.job import Job
from tcclip.config import Execution
from tcclip.distributed import current_ranks
from tcclip.model import build_model
from tcclip.train import Paused, Progress, Trainer

SETTINGS = {
    "train.epochs": 4, "train.warmup_epochs": 1, "train.global_batch": 8,
    "train.validate_every": 1, "train.mix.probability": 1.0,
    "model.num_frames": 2, "model.context_tokens": 4,
}  # fmt: skip
VIDEOS, STEPS = 16, 8  # 2 steps an epoch


class Interrupted(Exception):
    """Training stops here, as if its process had died."""


class Disk:
    """A recorder whose content outlives a training: states as bytes, losses by step.

    `stop_after` a step, or within the validation that follows it if `validating`; or a request to
    `pause_after` a step. `saved`: the steps of all states, and whether they were waited for.
    """

    validating = False

    def __init__(self) -> None:
        self.last = b""
        self.best = self.kept = b""
        self.saved: list[tuple[int, bool]] = []
        self.losses: dict[int, float] = {}
        self.stop_after: int | None = None
        self.pause_after: int | None = None

    def log(self, record: Any) -> None:
        if record["kind"] == "step":
            self.losses[record["step"]] = record["loss"]
            if record["step"] == self.stop_after and not self.validating:
                raise Interrupted

    def keep_best(self, model: Any, epoch: int) -> None:
        self.kept = _bytes(model.state_dict())

    def save_last(self, state: dict[str, Any], wait: bool) -> None:
        self.last, self.best = _bytes(state), self.kept
        self.saved.append((state["progress"]["step"], wait))

    def load_last(self, check: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        if not self.last:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(self.last), weights_only=True)
        check(state)
        return state

    def interrupted(self) -> bool:
        return max(self.losses) == self.pause_after


def _bytes(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def same(a: Any, b: Any) -> bool:
    """Whether two saved states hold the same; their bytes also say which texts are one object."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def train(
    protocol: str, cache: Path, disk: Disk, minutes: float, model_name: str = "tc_clip"
) -> Progress:
    spec = expand(Grid(protocol, demo=True, models=(model_name,), settings=SETTINGS))[0]
    execution = Execution(micro_batch=4, device="cpu", checkpoint_minutes=minutes)
    job = Job(
        spec=spec, out=cache, data_paths=DataPaths(cache=cache), execution=execution, owner="test"
    )
    ranks = current_ranks("cpu")
    data = RunData.load(job, ranks)
    data = replace(data, train=replace(data.train, items=data.train.items[:VIDEOS]))
    model = build_model(spec.model, data.train.class_names, clip_weights="random", seed=0)

    def validate(current: Any, epoch: int) -> dict[str, float]:
        """Some number that the weights decide."""
        if disk.validating and max(disk.losses) == disk.stop_after:
            raise Interrupted
        value = float(sum(p.detach().double().abs().mean() for p in current.parameters()))
        return {"top1": value % 1 * 100, "top5": 0.0, "videos": 1}

    return Trainer(
        model=model, loader=data.train_loader(), config=spec.train, augment=spec.augment,
        execution=execution, ranks=ranks, seed=0, videos=VIDEOS, validate=validate, recorder=disk,
    ).fit()  # fmt: skip


def test_two_epochs_stop_and_on_to_four_equals_four_straight(cache: Path) -> None:
    straight = Disk()
    expected = train("few_shot", cache, straight, minutes=60)
    assert len(straight.losses) == STEPS
    assert straight.saved == [(STEPS, True)], "a state at the end, and none before it"
    # At the end of epoch 2; in the middle of epochs 2 and 4; before anything was saved.
    for stops, minutes in (((4,), 0), ((3, 7), 0), ((2,), 60)):
        disk = Disk()
        for stop in stops:
            disk.stop_after = stop
            with pytest.raises(Interrupted):
                train("few_shot", cache, disk, minutes)
        steps = range(1, stops[-1])
        assert disk.saved == ([(step, False) for step in steps] if minutes == 0 else [])
        disk.stop_after = None
        assert train("few_shot", cache, disk, minutes) == expected
        assert disk.losses == straight.losses
        states = [one.load_last(lambda state: None) for one in (disk, straight)]
        assert same(*states), "weights, optimiser and progress, to the last bit"
        assert disk.best == straight.best


def test_an_epoch_whose_validation_was_interrupted_is_validated(cache: Path) -> None:
    straight, disk = Disk(), Disk()
    expected = train("base_to_novel", cache, straight, minutes=60)
    disk.validating, disk.stop_after = True, STEPS
    with pytest.raises(Interrupted):
        train("base_to_novel", cache, disk, minutes=0)
    disk.stop_after = None
    assert train("base_to_novel", cache, disk, minutes=0) == expected
    assert disk.best == straight.best


def test_averaged_weights_go_on_too(cache: Path) -> None:
    straight, disk = Disk(), Disk()
    expected = train("base_to_novel", cache, straight, 60, "open_vclip")
    disk.stop_after = 5
    with pytest.raises(Interrupted):
        train("base_to_novel", cache, disk, 0, "open_vclip")
    disk.stop_after = None
    assert train("base_to_novel", cache, disk, 0, "open_vclip") == expected
    assert (disk.losses, disk.best) == (straight.losses, straight.best)
    state = straight.load_last(lambda _: None)
    assert same(disk.load_last(lambda _: None), state)
    assert state is not None and state["average"]["count"] == 3, "4 epochs, 1 of them warm-up"


@pytest.mark.parametrize("step", [1, 2])  # within an epoch, and at its end
def test_a_pause_saves_the_state_and_waits_for_it(cache: Path, step: int) -> None:
    disk = Disk()
    disk.pause_after = step
    with pytest.raises(Paused, match=f"paused after step {step}"):
        train("few_shot", cache, disk, minutes=60)
    assert disk.saved == [(step, True)]
