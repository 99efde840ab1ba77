"""`tcclip runs forget` and `clean`: nothing that is needed goes, also when killed half way."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.runs import removal
from experiments.store import files
from experiments.store.files import write_text
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from results.reading.location import Location, exists, names
from results.reading.run_folder import RunFolder, State
from tests.builders import make_result

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["local", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    if request.param == "local":
        yield tmp_path
        return
    store = UPath("memory://forgotten/out")
    yield store
    store.fs.rm(store.path, recursive=True)


@pytest.fixture
def family(out: Location) -> list[RunSpec]:
    """A zero-shot run, a few-shot run that starts from it, and what extends that; the first two
    are finished."""
    grid = Grid("few_shot", demo=True, models=("tc_clip",), shots=(4,), variants=("pretrained",))
    parent, child = expand(grid)
    specs, ledger = [parent, child, child.extended(30)], Ledger(out)
    ledger.add(specs)
    for spec in specs[:2]:
        folder = ledger.folder(spec.run_id)
        for path in (folder.last, folder.best_of(1), folder.best_of(3)):
            write_text(path, "x" * 1000)
        write_text(folder.result, make_result(spec).model_dump_json())
    return specs


def runs(out: Location) -> list[str]:
    """The runs there are; a store in memory keeps empty folders."""
    return [folder.run_id for folder in Ledger(out).folders() if exists(folder.spec)]


def test_forget_refuses_parents_and_moves_families(
    out: Location, family: list[RunSpec], tcclip: Command
) -> None:
    parent, child, extension = (spec.run_id for spec in family)
    for run, other in ((parent, child), (child, extension)):
        code, _, error = tcclip("runs", "forget", run, "--yes", "--out", out)
        assert code == 2 and f"{run} is needed: {other} starts from it" in error
    code, text, error = tcclip("runs", "forget", parent, child, extension, "--out", out)
    assert code == 2 and "add --yes" in error and len(runs(out)) == 3, "nobody was asked"
    with claim(Ledger(out).folder(extension).path):
        code, _, error = tcclip("runs", "forget", extension, "--yes", "--out", out)
    assert code == 2 and "is running" in error
    code, text, _ = tcclip("runs", "forget", "*pretrained*", "--yes", "--out", out)
    assert code == 0 and "2 runs, " in text
    assert runs(out) == [parent]
    (time,) = names(removal.trash(out))
    kept = RunFolder(removal.trash(out) / time / child)
    assert kept.state() is State.FINISHED and exists(kept.best_of(1))
    code, text, _ = tcclip("runs", "forget", "--purge", "--yes", "--out", out)
    assert code == 0 and not names(removal.trash(out)) and runs(out) == [parent]
    assert tcclip("runs", "forget", parent, "--purge", "--yes", "--out", out)[0] == 0
    assert not runs(out) and not names(removal.trash(out))


def test_killed_half_way_every_run_is_whole_or_in_the_trash(
    out: Location, family: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []

    def killed(folder: RunFolder, target: RunFolder) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(folder.run_id)
        move(folder, target)

    move = removal.move
    monkeypatch.setattr(removal, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        removal.forget(removal.to_forget(out, ["*"]), purge=True)
    assert moved == [family[2].run_id], "never a parent before what starts from it"
    assert [Ledger(out).folder(one).state() for one in runs(out)] == [State.FINISHED] * 2
    monkeypatch.setattr(removal, "move", move)

    def no_end(path: Location) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "remove_all", no_end)
    with pytest.raises(KeyboardInterrupt):
        removal.forget(removal.to_forget(out, ["*"]), purge=True)
    assert not runs(out), "what is deleted is deleted in the trash"
    assert len(removal.trashed(out).files) == 3


def test_clean_keeps_what_counts_and_what_is_needed(
    out: Location, family: list[RunSpec], tcclip: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child, extension = (Ledger(out).folder(spec.run_id) for spec in family)
    code, text, _ = tcclip("runs", "clean", "--out", out, "--format", "json")
    old = {"best-0003.safetensors": 1000}
    found = {one["run_id"]: one["bytes"] for one in json.loads(text)}
    assert found == {parent.run_id: {"last.pt": 1000} | old, child.run_id: old}
    assert exists(parent.last), "json only lists"
    removed: list[Any] = []

    def killed(path: Location) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        files.remove(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(removal, "remove", killed)
        removal.clean(removal.to_clean(out, ["*"]))
    assert [one.state() for one in (parent, child)] == [State.FINISHED] * 2
    assert tcclip("runs", "clean", "--out", out, "--yes")[0] == 0
    assert exists(parent.best) and exists(child.best) and exists(child.last)
    assert not exists(parent.last) and not exists(parent.best_of(3))
    write_text(extension.result, make_result(family[2]).model_dump_json())
    assert tcclip("runs", "clean", child.run_id, "--out", out, "--yes")[0] == 0
    assert not exists(child.last), "what goes on with it is finished"
    assert tcclip("runs", "clean", "--out", out)[1] == "nothing to remove\n"
