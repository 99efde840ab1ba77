from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments.datasets import fetch as fetch_module
from experiments.datasets.fetch import Fault, fetch, verify
from experiments.errors import StorageError, UserError
from protocols.datasets import DATASETS
from protocols.manifest import Entry, manifest

LIST, LABELS, UNKNOWN = "datasets_splits/a b.txt", "labels/names.csv", "datasets_splits/new.txt"
CONTENT = {
    LIST: b"".join(b"video_%d.mp4 0\n" % number for number in range(9000)),
    LABELS: b"id,name\n0,wave\n",
    UNKNOWN: b"video.mp4 0\n",
}


def _entry(path: str) -> Entry:
    content = CONTENT[path]
    return Entry(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


ENTRIES = (_entry(LIST), _entry(LABELS), Entry(path=UNKNOWN))


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest lists CONTENT alone."""
    monkeypatch.setattr(fetch_module, "manifest", lambda: ENTRIES)


def ignore(path: str, number: int, files: int) -> None:
    """No progress is shown."""


class _Server(ThreadingHTTPServer):
    """Serves CONTENT. `broken`: responses that stop half way; `busy`: responses with 503."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = dict(CONTENT)
        self.broken = self.busy = 0
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.removeprefix("/set/").replace("%20", " ")
        self.server.requests.append(path)
        if self.server.busy:
            self.server.busy -= 1
            self.send_error(503)
            return
        if path not in self.server.content:
            self.send_error(404)
            return
        body = self.server.content[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.broken:
            self.server.broken -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    monkeypatch.setattr(fetch_module, "BACKOFF_SECONDS", 0.0)
    with _Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def bring(server: _Server, entries: None, tmp_path: Path) -> Callable[..., list[Fault]]:
    url = f"http://127.0.0.1:{server.server_port}/set/"
    return partial(fetch, url, tmp_path / "to", progress=ignore)


def test_from_an_address(
    bring: Callable[..., list[Fault]], server: _Server, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    assert bring(progress=lambda *step: steps.append(step)) == []
    assert verify(tmp_path / "to") == []
    assert {p: (tmp_path / "to" / p).read_bytes() for p in CONTENT} == CONTENT
    assert steps == [(path, number, 3) for number, path in enumerate(CONTENT, start=1)]
    assert not list((tmp_path / "to").rglob("*.part"))
    server.requests.clear()
    assert bring() == []
    assert server.requests == [], "verified files are not requested again"


def test_a_busy_server_and_a_broken_transfer_are_tried_again(
    bring: Callable[..., list[Fault]], server: _Server, tmp_path: Path
) -> None:
    server.busy, server.broken = 1, 2
    assert bring() == []
    assert server.requests == [LIST] * 4 + [LABELS, UNKNOWN]
    assert (tmp_path / "to" / LIST).read_bytes() == CONTENT[LIST]


def test_what_cannot_be_fetched_is_named(
    bring: Callable[..., list[Fault]], server: _Server, tmp_path: Path
) -> None:
    del server.content[UNKNOWN]
    server.content[LABELS] = b"id,name\n0,wink\n"
    changed, missing = bring()
    assert (changed.path, changed.kind, changed.known) == (LABELS, "changed", True)
    assert (missing.path, missing.kind, missing.known) == (UNKNOWN, "unavailable", False)
    assert "HTTP 404" in str(missing)
    server.busy = 99
    assert "attempts" in bring()[0].detail
    server.shutdown()
    server.server_close()
    assert {fault.kind for fault in bring()} == {"unavailable"}


def test_from_a_folder(entries: None, tmp_path: Path) -> None:
    for path, content in CONTENT.items():
        (tmp_path / "from" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / path).write_bytes(content)
    assert fetch(str(tmp_path / "from"), tmp_path / "to", ignore) == []
    (tmp_path / "from" / LIST).write_bytes(b"x" + CONTENT[LIST][1:])
    assert fetch(str(tmp_path / "from"), tmp_path / "to", ignore) == [], "kept as it is"
    (tmp_path / "to" / LIST).unlink()
    (fault,) = fetch(str(tmp_path / "from"), tmp_path / "to", ignore)
    assert fault.kind == "changed"
    assert not (tmp_path / "to" / LIST).exists()


def test_folders_that_cannot_be_used(entries: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor an http"):
        fetch(str(tmp_path / "nowhere"), tmp_path, ignore)
    (tmp_path / "to").write_text("a file")
    with pytest.raises(StorageError):
        fetch(str(tmp_path), tmp_path / "to", ignore)


def test_a_list_without_a_digest_must_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "manifest", lambda: (Entry(path=UNKNOWN),))
    (tmp_path / "datasets_splits").mkdir()
    (tmp_path / UNKNOWN).write_text("no label here.mp4\n")
    (fault,) = verify(tmp_path)
    assert (fault.kind, fault.known) == ("changed", False)


def test_the_manifest_has_every_file_of_the_data_sets() -> None:
    entries = {entry.path: entry for entry in manifest()}
    assert len(entries) == len(manifest())
    unknown = {path for path, entry in entries.items() if entry.sha256 is None}
    assert unknown == {
        "datasets_splits/k400_splits/train.txt",
        "datasets_splits/base2novel_splits/k400_splits/base_train.txt",
    }
    for dataset in (one for one in DATASETS.values() if not one.embedded):
        for split in dataset.splits:
            assert entries[split.annotations].lines == split.videos
        for labels in dataset.label_sets:
            for file in filter(None, (labels.file, labels.llm)):
                assert entries[file].classes == labels.classes


def test_one_changed_byte_of_the_published_set_is_found(
    published_annotations: Path, tmp_path: Path
) -> None:
    faults = verify(published_annotations)
    assert [(fault.kind, fault.known) for fault in faults] == [("missing", False)] * 2
    copy = tmp_path / "copy"
    shutil.copytree(published_annotations, copy)
    changed = copy / "datasets_splits/hmdb_splits/val2.txt"
    changed.parent.chmod(0o755)
    changed.chmod(0o644)
    content = bytearray(changed.read_bytes())
    content[1000] ^= 1
    changed.write_bytes(content)
    (fault,) = [fault for fault in verify(copy) if fault.kind == "changed"]
    assert fault.path == "datasets_splits/hmdb_splits/val2.txt"
    assert "sha256" in fault.detail
