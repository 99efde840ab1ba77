"""The thread that copies runs during a sweep: whatever the tracker does, the sweep goes on."""

import io
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.tracking import Incomplete, Mirror, default_uri, ui
from experiments.tracking.connection import redact_url
from experiments.tracking.sync_thread import SyncThread
from tests.experiments.sweeping import SETTINGS
from tests.experiments.tracking.mirrored import OTHER, begin, copies, has_all, mirror_of, unfinish

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def test_the_last_look_comes_after_the_end_and_the_thread_ends(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    result = unfinish(out, spec)
    folder = begin(out)
    with claim(folder.path):  # another sweep's run; that sweep is killed
        mirror_of(out).sync([OTHER.run_id])
    with SyncThread(Ledger(out), default_uri(out), [spec.run_id], print) as thread:
        Path(Ledger(out).folder(spec.run_id).result).write_bytes(result)
    assert not thread.gave_up
    assert "mlflow" not in {one.name for one in threading.enumerate()}
    has_all(mirror_of(out), spec)
    assert [run.info.status for run in copies(mirror_of(out), OTHER)] == ["KILLED"]


def test_what_mlflow_asks_uname_is_known_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_uname_cache", None)
    monkeypatch.setattr(platform, "_platform_cache", {})
    known = list[bool]()
    monkeypatch.setattr(
        threading.Thread, "start", lambda _: known.append("processor" in vars(platform.uname()))
    )
    monkeypatch.setattr(threading.Thread, "join", lambda *_: None)
    with SyncThread(Ledger(tmp_path), default_uri(tmp_path), ["run"], print):
        assert known == [True]


def test_every_kind_of_trouble_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.05)
    said, passes = list[str](), list[bool]()

    def sync(*_: Any) -> None:
        passes.append(True)
        if len(passes) < 3:
            raise Incomplete({"run": "its result is damaged"})
        raise ConnectionError("https://ann:secret@host is down")

    monkeypatch.setattr(Mirror, "sync", sync)
    with SyncThread(Ledger(tmp_path), default_uri(tmp_path), ["run"], said.append) as thread:
        while len(passes) < 5:
            time.sleep(0.05)
    runs, down = said
    assert "lacks some runs:\n  run: its result is damaged" in runs and "--sync" in runs
    assert "cannot be written (ConnectionError: https://host is down)" in down
    assert thread.gave_up


@pytest.mark.parametrize(
    "uri", ["sqlite:///{}/file/mlflow.db", "http://[::1:5000", "postgresql://ann:se[cret@host/db"]
)
def test_a_tracker_that_cannot_be_used_is_said_once_and_fails_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    begin(tmp_path)
    (tmp_path / "file").write_text("a file where a folder should be")
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    said: list[str] = []
    with SyncThread(Ledger(tmp_path), default_uri(tmp_path), [OTHER.run_id], said.append):
        time.sleep(0.5)
    (text,) = said
    assert "cannot be written" in text and "tcclip ui --sync" in text and "se[cret" not in text
    with pytest.raises(UserError, match=r"cannot (be written|write)"):
        ui.sync(tmp_path)


def test_who_interrupts_the_wait_for_mlflow_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, said = threading.Event(), list[str]()

    def never(*_: Any) -> None:
        stuck.wait(60)
        raise ConnectionError("at last")

    monkeypatch.setattr("experiments.tracking.sync_thread.Mirror", never)
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.01)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with SyncThread(Ledger(tmp_path), default_uri(tmp_path), [], said.append) as thread:
        monkeypatch.setattr(thread._thread, "join", interrupted)
    assert thread.gave_up
    stuck.set()
    while "mlflow" in {one.name for one in threading.enumerate()}:
        time.sleep(0.05)
    (text,) = said
    assert f"is not up to date yet\nruns go on, and `tcclip ui --sync --out {tmp_path}`" in text


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that accepts every connection and never answers: its address, its connections."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def serve() -> None:
            while True:
                try:
                    connections.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://ann:secret@127.0.0.1:{listening.getsockname()[1]}", connections
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_a_server_that_never_answers_does_not_hold_up_the_end_of_a_sweep(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    monkeypatch.setattr("experiments.tracking.sync_thread.END_SECONDS", 2.0)
    console = Console(record=True, width=400, file=io.StringIO())
    with silent_server() as (uri, connections):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        start = time.monotonic()
        with SyncThread(Ledger(out), uri, [spec.run_id], console.print) as sync_thread:
            pass
        assert sync_thread.gave_up
        with ui.keeping_report(out, [spec], console, ask=None) as (keep, links):
            keep(lambda folder: pytest.fail("there is nowhere to keep it"))
            assert links == {}
        took = time.monotonic() - start
        assert connections
    assert took < 15, "the defaults of MLflow's client would make it 16 minutes"
    text = console.export_text()
    assert text.count("tcclip ui --sync") == 1, "said once"
    assert "secret" not in text and "127.0.0.1" in text


def test_a_sweep_with_nothing_to_do_does_not_ask_mlflow(
    again: tuple[Path, RunSpec],
    monkeypatch: pytest.MonkeyPatch,
    tcclip: Callable[..., tuple[int, str, str]],
) -> None:
    out, _ = again
    monkeypatch.setattr(ui, "Mirror", lambda *given: pytest.fail("MLflow is asked"))
    settings = [text for one in SETTINGS.items() for text in ("--set", "{}={}".format(*one))]
    of_it = ("--models", "tc_clip", "--seeds", "0", *settings, "--out", out)
    code, table, said = tcclip("sweep", "zero_shot", "--demo", *of_it)
    assert code == 0
    assert "TC-CLIP" in table and "MLflow: tcclip ui --out" in said


def test_syncing_with_a_tracker_that_is_down_says_so(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    with pytest.raises(UserError, match=r"cannot be written .*refused.*; see `tcclip doctor`") as e:
        ui.sync(again[0])
    assert "secret" not in str(e.value)


def test_a_server_has_a_ui_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:se/cr@et@mlflow.example:8443")
    with pytest.raises(UserError, match=r"mlflow\.example:8443") as raised:
        ui.serve_ui(tmp_path, host="127.0.0.1", port=5000)
    assert "cr@et" not in str(raised.value) and "ann" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://ann:pw@host/x?a=b@c, http://h", "at https://host/x?a=b@c, http://h"),
        ("https://ann:p@ss@host:80/x", "https://host:80/x"),
        ("https://ann:p/a@host/x", "https://host/x"),
        ("https://ann@host", "https://host"),
        ("http://host:5000/users/ann@work", "http://host:5000/users/ann@work"),
        ("postgresql://h/db?user=ann&password=s3cret&x=1", "postgresql://h/db?user=ann&password=...&x=1"),
        ("https://h/?api_key=abc", "https://h/?api_key=..."),
        ("'http://ann:pw@h' and \"http://bob:pw@h\"", "'http://h' and \"http://h\""),
    ],
)  # fmt: skip
def test_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    assert redact_url(text) == shown
