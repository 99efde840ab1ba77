"""`tcclip runs extend`: a finished run goes on to what its settings promise."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.worker import checkpoints
from results.reading.run_folder import RunFolder
from tcclip.schedule import Schedule
from tests.experiments.sweeping import numbers, run_sweep, small_specs

Command = Callable[..., tuple[int, str, str]]


def extended(out: Path, spec: RunSpec, tcclip: Command) -> RunSpec:
    """The run of 4 epochs that the command plans after `spec`, of 2."""
    code, text, _ = tcclip("runs", "extend", spec.run_id, "--epochs", "4", "--out", out)
    run_id = text.partition(":")[0]
    assert code == 0 and shlex.join(["--only", run_id, "--out", str(out)]) in text
    return Ledger(out).spec(run_id)


def content(out: Path, spec: RunSpec) -> dict[str, Any]:
    """Numbers and selection; its digests name the state it started from in no other way."""
    return {name: numbers(out, spec)[name] for name in ("measurements", "selection")}


def test_two_epochs_go_on_to_four_as_the_settings_say(
    again: tuple[Path, RunSpec],
    cache: Path,
    tcclip: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    out, old = again
    out = out.rename(tmp_path / "the out")  # to be quoted where a command is printed
    new = extended(out, old, tcclip)
    assert (new.parent, new.extends, new.train.epochs) == (old.run_id, 2, 4)
    # What it has to be: the old state, gone on with by a run of four epochs.
    (straight,) = small_specs(train__epochs=4)
    theirs = Ledger(tmp_path / "straight").folder(straight.run_id).path
    shutil.copytree(Ledger(out).folder(old.run_id).path / "checkpoints", theirs / "checkpoints")
    assert run_sweep([straight], tmp_path / "straight", cache).exit_code == 0
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    monkeypatch.setattr("experiments.scheduler.sweep.SyncThread", _NoMlflow)
    code, table, error = tcclip(
        "sweep", "--only", new.run_id, "--out", out, "--executor", "local", "--device", "cpu",
        "--micro-batch", "32", "--eval-batch", "64", "--loader-workers", "0", "--format", "md",
    )  # fmt: skip
    assert code == 0, error
    assert "2 runs, 1 to do" in error
    assert content(out, new) == content(tmp_path / "straight", straight)
    # The schedule of four epochs from the third on, and said in table and provenance.
    lines = Path(Ledger(out).folder(new.run_id).metrics).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = {one["step"]: one["lr"] for one in records if one["kind"] == "step"}
    schedule = Schedule(new.train, 192)
    assert steps == {step + 1: schedule.rate(step, new.train.lr) for step in range(12, 24)}
    assert "[from epoch 2 of 2] [train.epochs=4]" in table
    assert "extended: epochs 1 to 2 followed the learning rates of 2 epochs, the others" in table
    shown = json.loads(tcclip("runs", "show", new.run_id, "--out", out, "--format", "json")[1])[0]
    assert (shown["provenance"]["extends"], shown["parent"]) == (old.run_id, old.run_id)
    code, _, error = tcclip("runs", "forget", old.run_id, "--out", out, "--yes")
    assert code == 2 and f"is needed: {new.run_id} starts from it" in error
    # Once more: the same state, the same numbers; and a run that was extended is extended again.
    again_code, _, _ = tcclip("runs", "extend", new.run_id, "--epochs", "6", "--out", out)
    assert again_code == 0
    keys = [folder.run_id for folder in Ledger(out).folders()]
    (third,) = [Ledger(out).spec(one) for one in keys if one not in (old.run_id, new.run_id)]
    assert third.key.origin == "epoch 2 of 2, then epoch 4 of 4"


class _NoMlflow:
    """In the place of the thread that copies to MLflow."""

    gave_up = True

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_a_takeover_that_was_cut_short_is_made_again(
    again: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, old = again
    parent, folder = Ledger(out).folder(old.run_id), RunFolder(tmp_path / "new")
    copies: list[str] = []

    def cut(source: Path, target: Path) -> None:
        copies.append(source.name)
        if source == parent.last:
            raise KeyboardInterrupt
        target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints.shutil, "copyfile", cut)
        checkpoints.take_over(parent, folder, lambda: None)
    assert copies[-1] == "last.pt" and not folder.last.exists()
    checkpoints.take_over(parent, folder, lambda: None)
    assert folder.last.read_bytes() == parent.last.read_bytes()
    best = parent.best
    assert folder.best_of(int(best.stem[5:])).read_bytes() == best.read_bytes()
    folder.last.write_bytes(b"its own")
    checkpoints.take_over(parent, folder, lambda: None)
    assert folder.last.read_bytes() == b"its own", "never over a state of its own"


def test_what_cannot_be_extended_is_refused(again: tuple[Path, RunSpec], tcclip: Command) -> None:
    out, spec = again
    ledger, (clip,) = Ledger(out), small_specs(models=("clip",))
    ledger.add([clip])
    state = torch.load(ledger.folder(spec.run_id).last, weights_only=True)
    refused = [("x", 4, "no run in"), (clip.run_id, 4, "is planned, and only finished runs are")]
    refused += [(spec.run_id, 2, "has 2 already")]
    for run, epochs, message in refused:
        code, _, error = tcclip("runs", "extend", run, "--epochs", epochs, "--out", out)
        assert code == 2 and message in error, error
    del state["optimizer"]  # as earlier versions wrote it
    torch.save(state, ledger.folder(spec.run_id).last)
    code, _, error = tcclip("runs", "extend", spec.run_id, "--epochs", "4", "--out", out)
    assert code == 2 and "holds no optimiser state" in error
    assert len(ledger.folders()) == 2, "nothing is planned"
