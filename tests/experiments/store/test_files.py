"""Files that are whole or not there, whatever happens in between."""

import os
import sys
from pathlib import Path

import fsspec  # noqa: F401
import pytest

from experiments.datasets.paths import DataPaths
from experiments.errors import LeaseHeld, StorageError, UserError
from experiments.store import files
from experiments.store.files import create_text, remove, remove_all, write_text
from experiments.store.lease import claim
from experiments.worker.job import Job
from results.reading.location import (
    Location,
    exists,
    folder_names,
    local_copy,
    location,
    names,
    read_bytes,
    stamp,
)
from tcclip.config import Execution
from tests.experiments.sweeping import small_specs


@pytest.fixture(params=["a folder", "memory://"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    remote = str(request.param).endswith("://")
    return location(f"{request.param}{tmp_path.name}/out") if remote else tmp_path / "out"


def test_every_kind_of_location_does_the_same(folder: Location) -> None:
    path = folder / "sub" / "file"
    assert names(folder) == folder_names(folder) == []
    assert read_bytes(path) is None and stamp(path) is None and not exists(path)
    remove(path)
    remove_all(folder)
    with pytest.raises(FileNotFoundError), local_copy(path) as copy:
        copy.read_bytes()
    assert create_text(path, "one")
    assert not create_text(path, "two")
    assert read_bytes(path) == b"one"
    first = stamp(path)
    assert first is not None and first == stamp(path)
    write_text(path, "three")
    assert stamp(path) != first
    with local_copy(path) as copy:
        assert isinstance(copy, Path) and copy.read_text() == "three" and copy.name == "file"
    write_text(folder / "beside", "")
    assert names(folder) == ["beside", "sub"]
    assert folder_names(folder) == ["sub"]
    assert exists(path)
    remove(folder / "beside")
    inner = folder / "sub" / "more" / "sub"  # a folder of its name lies above it
    write_text(inner / "deep" / "file", "four")
    assert files.sizes(inner) == {"deep/file": 4} and files.sizes(folder / "nothing") == {}
    remove_all(folder / "sub")
    assert names(folder) == []


def test_a_file_that_is_deleted_meanwhile_has_no_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    real = Path.is_file

    def is_file(path: Path) -> bool:
        found = real(path)
        if path.name == "one":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", is_file)
    assert files.sizes(tmp_path) == {"two": 3}


def test_locations_are_absolute_and_travel_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert location("out") == tmp_path / "out"
    assert location((tmp_path / "my out").as_uri()) == tmp_path / "my out"
    for out in (tmp_path, location("memory://bucket/out")):
        job = Job(
            spec=small_specs()[0],
            out=out,
            data_paths=DataPaths(cache=tmp_path),
            execution=Execution(),
            owner="test",
        )
        again = Job.model_validate_json(job.model_dump_json())
        assert (again.out, str(again.out), type(again.out)) == (out, str(out), type(out))


def test_an_address_of_no_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"give credentials in the environment \(AWS_ACCESS_KEY_ID"):
        location("s3://key:secret@bucket/out")
    with pytest.raises(UserError, match="names no folder; give s3://BUCKET/FOLDER"):
        location("s3://bucket")
    with pytest.raises(UserError, match="known: a path, s3://BUCKET/FOLDER"):
        location("s4://bucket/out")
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"s3:// needs .*: pip install 'tcclip-sweeps\[s3\]'"):
        location("s3://bucket/out")


def test_a_link_whose_answer_got_lost_is_no_lost_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)  # what a network file system's client may do

    monkeypatch.setattr(files.os, "link", twice)
    assert create_text(tmp_path / "file", "mine")
    assert not create_text(tmp_path / "file", "another's")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_deleted_under_it_loses_the_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(source: Path, target: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(files.os, "link", gone)
    assert not create_text(tmp_path / "file", "mine")
    with pytest.raises(LeaseHeld), claim(tmp_path):
        pass
    assert not names(tmp_path)


def test_a_file_system_without_links_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    with pytest.raises(StorageError, match="file: Operation not permitted; choose another"):
        create_text(tmp_path / "file", "mine")
