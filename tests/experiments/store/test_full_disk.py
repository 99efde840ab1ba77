"""A disk that fills up in the middle of a sweep: a clear error, nothing lost, and it goes on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import StorageError
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.worker import run
from experiments.worker.checkpoints import RunCheckpoints
from results.reading.run_folder import State
from tests.experiments.sweeping import numbers, run_sweep, small_specs


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MB of its own; a run takes up to 60."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=160m", "tcclip-test", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk: Path, room: int) -> None:
    """Fill `disk` until `room` bytes are free."""
    (disk / "ballast").unlink(missing_ok=True)
    free = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(bytes(max(0, free - room)))
    assert shutil.disk_usage(disk).free <= max(room, 4096)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def other() -> RunSpec:
    (spec,) = small_specs(models=("vifi_clip",), train__epochs=1, model__num_frames=2)
    return spec


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, other: RunSpec, cache: Path) -> dict[str, Any]:
    """The numbers of the run where there is room."""
    out = tmp_path_factory.mktemp("calm")
    assert run_sweep([other], out, cache).exit_code == 0
    return numbers(out, other)


def test_a_full_disk_stops_a_run_and_loses_nothing(
    disk: Path,
    finished: tuple[Path, RunSpec],
    calm: dict[str, Any],
    other: RunSpec,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it is about to write; with room again it goes on, to the next full disk."""
    earlier, spec = finished
    out = disk / "out"
    shutil.copytree(earlier, out)
    before = files(out)
    for what in WRITTEN:
        fill_before(what, disk, monkeypatch)
        summary = run_sweep([spec, other], out, cache)
        assert summary.exit_code == 1, what
        assert set(summary.failed) == {other.run_id}
        cause = summary.failed[other.run_id]
        assert cause.startswith("StorageError: cannot write"), cause
        assert "No space left on device" in cause
        assert "free space" in cause
        assert other.run_id in cause
        now = files(out)
        assert {name: now[name] for name in before} == before, "earlier results are intact"
        assert not temporaries(out)
        assert Ledger(out).folder(other.run_id).state() is not State.FINISHED
        monkeypatch.undo()
        (disk / "ballast").unlink()
    again = run_sweep([spec, other], out, cache)
    assert again.exit_code == 0, again.failed
    assert {name: files(out)[name] for name in before} == before
    assert numbers(out, other) == calm


#: What a run writes, in its order, and by which function.
WRITTEN: dict[str, tuple[Any, str]] = {
    "metrics": (RunCheckpoints, "log"),
    "best": (RunCheckpoints, "_write_best"),
    "last": (RunCheckpoints, "_write_last"),
    "predictions": (run, "write_predictions"),
    "result": (run, "make_result"),
}


def fill_before(what: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the disk when the run is about to write `what`."""
    place, name = WRITTEN[what]
    original = getattr(place, name)

    def full(*arguments: Any, **named: Any) -> Any:
        leave(disk, 0)
        return original(*arguments, **named)

    monkeypatch.setattr(place, name, full)


def test_a_full_disk_is_said_before_anything_starts(
    disk: Path, other: RunSpec, cache: Path
) -> None:
    leave(disk, 0)
    with pytest.raises(StorageError, match=f"cannot write {disk}.*No space left on device"):
        run_sweep([other], disk / "out", cache)
