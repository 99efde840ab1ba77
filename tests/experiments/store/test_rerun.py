"""What a run held is moved aside for a rerun, and is lost at no moment before it has begun."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from experiments.errors import StorageError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store import rerun
from experiments.store.attempt_records import record_failure
from experiments.store.files import write_text
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.store.rerun import (
    back_up,
    delete_if_begun,
    find_backups,
    restore_unless_begun,
)
from results.reading.location import Location, exists, read_bytes
from results.reading.run_folder import RunFolder, State
from tests.builders import make_result


@pytest.fixture(params=["local", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    if request.param == "local":
        yield tmp_path
        return
    store = UPath("memory://rerun")
    yield store
    store.fs.rm(store.path, recursive=True)


@pytest.fixture
def spec() -> RunSpec:
    return expand(Grid("zero_shot", demo=True))[0]


def fill(ledger: Ledger, spec: RunSpec) -> dict[str, bytes | None]:
    """A finished run in short; its files."""
    ledger.add([spec])
    folder = ledger.folder(spec.run_id)
    for path in (folder.metrics, folder.log, folder.last, folder.best_of(1)):
        write_text(path, "old\n")
    write_text(folder.result, make_result(spec).model_dump_json())
    return content(folder)


def content(folder: RunFolder) -> dict[str, bytes | None]:
    paths = (
        folder.spec, folder.metrics, folder.log, folder.last, folder.best_of(1),
        folder.result, folder.failure, folder.paused,
    )  # fmt: skip
    return {path.name: read_bytes(path) for path in paths}


def test_a_run_that_could_not_begin_is_as_before_but_for_its_log(
    out: Location, spec: RunSpec
) -> None:
    ledger = Ledger(out)
    folder, before = ledger.folder(spec.run_id), fill(ledger, spec)
    assert back_up(ledger, [spec.run_id], []) == []
    assert not any(content(folder).values())
    assert folder.state() is State.PLANNED
    ledger.add([spec])
    record_failure(folder, "Boom", "boom", "trace")
    write_text(folder.log, "new\n")
    assert find_backups(ledger, {spec.run_id}) == {spec.run_id}
    assert restore_unless_begun(ledger, spec.run_id)
    assert content(folder) == before | {"run.log": b"old\nnew\n"}
    assert not find_backups(ledger, {spec.run_id})
    assert restore_unless_begun(ledger, spec.run_id) is False, "another sweep was quicker"
    assert content(folder) == before | {"run.log": b"old\nnew\n"}


@pytest.mark.parametrize("file", ["metrics", "result"])
def test_a_run_that_has_begun_loses_its_backup(out: Location, spec: RunSpec, file: str) -> None:
    ledger = Ledger(out)
    fill(ledger, spec)
    back_up(ledger, [spec.run_id], [])
    folder = ledger.folder(spec.run_id)
    assert not delete_if_begun(ledger, spec.run_id)
    write_text(getattr(folder, file), "new\n")
    assert not restore_unless_begun(ledger, spec.run_id)
    assert not find_backups(ledger, {spec.run_id})
    assert read_bytes(getattr(folder, file)) == b"new\n"


def test_a_second_rerun_keeps_the_first_ones_backup(out: Location, spec: RunSpec) -> None:
    ledger = Ledger(out)
    folder, before = ledger.folder(spec.run_id), fill(ledger, spec)
    back_up(ledger, [spec.run_id], [])
    record_failure(folder, "Boom", "boom", "trace")
    back_up(ledger, [spec.run_id], [])
    restore_unless_begun(ledger, spec.run_id)
    assert content(folder) == before


def test_a_run_in_use_is_refused_and_no_other_one_moved(out: Location) -> None:
    specs = expand(Grid("zero_shot", demo=True, seeds=(0, 1, 2)))
    ledger = Ledger(out)
    ledger.add(specs)
    with (
        claim(ledger.folder(specs[2].run_id).path),
        pytest.raises(StorageError, match=f"{specs[2].run_id} is held by .*stop it first"),
    ):
        back_up(ledger, [spec.run_id for spec in specs], [])
    assert all(exists(ledger.folder(spec.run_id).spec) for spec in specs)


def test_a_run_that_another_sweep_has_finished_is_kept(out: Location, spec: RunSpec) -> None:
    ledger = Ledger(out)
    before = fill(ledger, spec)
    assert back_up(ledger, [spec.run_id], [spec.run_id]) == [spec.run_id]
    assert content(ledger.folder(spec.run_id)) == before


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("calls", range(12))
def test_a_move_that_is_cut_short_loses_nothing(
    out: Location, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    ledger = Ledger(out)
    folder, before = ledger.folder(spec.run_id), fill(ledger, spec)
    done: list[str] = []

    def until(name: str) -> None:
        real = getattr(rerun, name)

        def call(*arguments: Any) -> Any:
            if len(done) == calls:
                raise Killed
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(rerun, name, call)

    for name in ("remove", "remove_all", "_copy", "write_text"):
        until(name)
    with suppress(Killed):
        back_up(ledger, [spec.run_id], [])
        restore_unless_begun(ledger, spec.run_id)
    monkeypatch.undo()
    if folder.state() is not State.FINISHED:
        assert read_bytes(folder.last) is None, "a new attempt begins at the beginning"
    restore_unless_begun(ledger, spec.run_id)
    before.pop("run.log")
    after = content(folder)
    assert str(after.pop("run.log")).count("old") in (1, 2), "its lines may be repeated"
    assert after == before
