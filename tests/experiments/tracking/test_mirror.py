"""MLflow as a view of the run folders: complete, made once, and never in the way."""

import io
import json
import signal
import socket
import subprocess
import sys
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
from experiments.store.attempt_records import record_failure
from experiments.store.lease import held
from experiments.store.ledger import Ledger
from experiments.tracking import Incomplete, Mirror, default_uri, ui
from experiments.tracking.connection import check_answers, redact_url, within
from experiments.tracking.sync_thread import Follower
from tests.experiments.sweeping import small_specs
from tests.experiments.tracking.mirrored import children, has_all, stopped_short

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def test_a_finished_run_is_there_once_with_everything(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    ledger = Ledger(out)
    for _ in range(2):  # a second process finds the copy, and adds nothing
        mirror = Mirror(ledger, default_uri(out))
        mirror.sync([spec])
        mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert run.info.status == "FINISHED"
    first = json.loads(ledger.folder(spec.run_id).metrics.read_text().splitlines()[0])
    assert run.info.start_time == int(first["time"] * 1000)
    assert 0 < run.info.end_time - run.info.start_time + 1000 < 600_000, "of the run, not the copy"
    tags = run.data.tags
    assert (tags["protocol"], tags["model"], tags["seed"]) == ("zero_shot", "tc_clip", "0")
    assert tags["mlflow.parentRunId"]
    assert tags["overrides"].startswith("model.context_tokens=4 ")
    assert run.data.params["train.epochs"] == "2"
    history = mirror.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 25))
    assert len(mirror.client.get_metric_history(run.info.run_id, "epoch/val_top1")) == 2
    result = ledger.folder(spec.run_id).read_result()
    assert result is not None
    final = {k: v for k, v in run.data.metrics.items() if k.startswith("final/")}
    assert len(final) == len(result.measurements) == 3 * 2 * 2 * 2
    one = result.measurements[0]
    name = f"final/{one.suite}/{one.split}/{one.metric}/{one.checkpoint}-{one.weights}-{one.views}"
    assert final[name] == one.value
    files = {file.path for file in mirror.client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "result.json", "run.log"}
    assert len(run.inputs.dataset_inputs) == 5, "train, val and three unseen lists"


def test_a_run_that_grows_is_followed_without_repeats(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    folder.result.unlink()
    lines = folder.metrics.read_text().splitlines(keepends=True)
    mirror = Mirror(Ledger(out), default_uri(out))
    folder.metrics.write_text("".join(lines[:15]) + lines[15][:10])
    mirror.sync([spec])
    # Cut back to the last checkpoint by a resumed run, then grown again.
    folder.metrics.write_text("".join(lines[:13]))
    Mirror(Ledger(out), default_uri(out)).sync([spec])
    folder.metrics.write_text("".join(lines))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert run.info.status == "KILLED", "nobody works on it"
    for name, steps in (("loss", list(range(1, 25))), ("epoch/loss", [12, 24])):
        history = mirror.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == steps


def test_steps_that_a_resumed_run_makes_again_are_there_once(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    folder.result.unlink()
    lines = folder.metrics.read_text().splitlines(keepends=True)
    folder.metrics.write_text("".join(lines[:20]))
    Mirror(Ledger(out), default_uri(out)).sync([spec])  # by a sweep that was killed
    # The run goes on from an earlier step: the same numbers at other times.
    redone = [json.loads(line) for line in lines[13:]]
    later = [json.dumps({**record, "time": record["time"] + 100}) + "\n" for record in redone]
    folder.metrics.write_text("".join([*lines[:13], *later]))
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    for name, steps in (("loss", list(range(1, 25))), ("epoch/loss", [12, 24])):
        history = mirror.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == steps


def test_a_tracker_that_is_down_is_said_once_and_costs_nothing(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    said: list[str] = []
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.05)
    uri = f"sqlite:///{out}/no/such/folder/mlflow.db"
    (out / "no").write_text("a file where a folder should be")
    with Follower(Ledger(out), uri, [spec], said.append):
        time.sleep(0.5)
    assert len(said) == 1
    assert "tcclip ui --sync" in said[0]


def test_who_interrupts_the_wait_for_mlflow_waits_no_longer(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    stuck, said = threading.Event(), list[str]()

    def never(*_: Any) -> None:
        stuck.wait(60)
        raise ConnectionError("at last")

    monkeypatch.setattr("experiments.tracking.sync_thread.Mirror", never)
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.01)
    begin = time.monotonic()
    with Follower(Ledger(out), default_uri(out), [spec], said.append) as follower:
        time.sleep(0.2)
        main = threading.main_thread().ident
        threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT]).start()
    assert time.monotonic() - begin < 20
    assert follower.gave_up
    assert f"is not done after 0 s; `tcclip ui --sync --out {out}` copies the rest" in said[0]
    stuck.set()
    assert follower._thread is not None
    follower._thread.join()


def test_reports_are_kept_with_the_sweep(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    (out / "report").mkdir()
    (out / "report" / "zero_shot.md").write_text("| a table |")
    mirror.report(spec, out / "report")
    assert mirror.links([spec]) == {}, "not copied yet"
    mirror.sync([spec])
    (link,) = mirror.links([spec]).values()
    (run,) = children(mirror, spec)
    assert link.endswith(f"/runs/{run.info.run_id}")
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    (parent,) = mirror.client.search_runs([experiment.experiment_id], "tags.`tcclip.sweep` != ''")
    files = mirror.client.list_artifacts(parent.info.run_id, "report")
    assert [file.path for file in files] == ["report/zero_shot.md"]


def test_following_leaves_no_thread_behind(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    with Follower(Ledger(out), default_uri(out), [spec], print):
        pass
    assert "mlflow" not in {thread.name for thread in threading.enumerate()}
    (run,) = children(Mirror(Ledger(out), default_uri(out)), spec)
    assert run.info.status == "FINISHED", "the last look comes after the sweep's end"


def test_specs_have_parameters_mlflow_takes() -> None:
    from experiments.grid.overrides import flat

    names = [name for name, _ in flat(small_specs()[0].model_dump(mode="json"))]
    assert len(names) == len(set(names))


def test_a_call_that_failed_leaves_no_hole(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    monkeypatch.setattr("experiments.tracking.mirror.REFUSED_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(mirror.client, "log_batch", _unreachable)
        for _ in range(2):
            with pytest.raises(Incomplete, match="ConnectionError: the server is down"):
                mirror.sync([spec])
    mirror.sync([spec])
    has_all(mirror, spec)


def test_a_run_that_ends_while_its_records_are_sent_leaves_no_hole(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    lines, result = folder.metrics.read_bytes(), folder.result.read_bytes()
    folder.result.unlink()
    folder.metrics.write_bytes(b"".join(lines.splitlines(keepends=True)[:15]))
    mirror = Mirror(Ledger(out), default_uri(out))
    send = mirror.client.log_batch

    def slow(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        if named.get("metrics"):
            folder.metrics.write_bytes(lines)
            folder.result.write_bytes(result)

    with monkeypatch.context() as patch:
        patch.setattr(mirror.client, "log_batch", slow)
        mirror.sync([spec])
    mirror.sync([spec])
    has_all(mirror, spec)


def _unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("the server is down")


def test_killed_runs_do_not_stay_running_and_continued_ones_run_again(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    ledger, uri = Ledger(out), default_uri(out)
    folder = ledger.folder(spec.run_id)
    result = folder.result.read_bytes()
    stopped_short(out, spec)

    def status() -> str:
        (run,) = children(Mirror(ledger, uri), spec)
        return str(run.info.status)

    with held(folder.path):
        Mirror(ledger, uri, commit="c" * 40).sync([spec])
        assert status() == "RUNNING"
        (run,) = children(Mirror(ledger, uri), spec)
        assert run.data.tags["git_commit"] == "c" * 40, "known from the start"
        Mirror(ledger, uri).settle()
        assert status() == "RUNNING", "somebody is at it"
    with Follower(ledger, uri, [], print):
        pass
    assert status() == "KILLED", "a sweep of other runs has seen it"
    with held(folder.path):
        Mirror(ledger, uri).sync([spec])
        assert status() == "RUNNING"
    assert ui.sync(out) == (1, 0)
    assert status() == "KILLED"
    folder.result.write_bytes(result)
    assert ui.sync(out) == (1, 0)
    assert status() == "FINISHED"


def test_a_failed_run_keeps_its_failure_and_log_until_it_goes_on(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    ledger = Ledger(out)
    folder = ledger.folder(spec.run_id)
    stopped_short(out, spec)
    record_failure(folder, "Boom", "Boom: it broke", "trace")
    mirror = Mirror(ledger, default_uri(out))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert (run.info.status, run.data.tags["tcclip.error"]) == ("FAILED", "Boom: it broke")
    files = {file.path for file in mirror.client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "failure.json", "run.log"}
    with held(folder.path):
        for one in (mirror, Mirror(ledger, default_uri(out))):
            one.sync([spec])
            (run,) = children(one, spec)
            assert run.info.status == "RUNNING"
            assert "tcclip.error" not in run.data.tags


def test_what_is_told_once_is_not_told_again(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    stopped_short(out, spec)
    mirror = Mirror(Ledger(out), default_uri(out))
    for attempt in (1, 2):
        record_failure(folder, "Boom", f"Boom {attempt}", "trace")
        mirror.sync([spec])
        (run,) = children(mirror, spec)
        assert run.data.tags["tcclip.error"] == f"Boom {attempt}"
        with monkeypatch.context() as patch:
            for name in ("set_tag", "set_terminated", "update_run", "log_artifact", "log_batch"):
                patch.setattr(mirror.client, name, _unreachable)
            mirror.sync([spec])


def test_a_damaged_run_keeps_no_other_from_mlflow(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out, spec = again
    for name, file, text in (("a-damaged", "spec.json", "{}"), ("b-damaged", "spec.json", "[")):
        (out / "runs" / name).mkdir()
        (out / "runs" / name / file).write_text(text)
    (other,) = small_specs(train__lr=1e-4)
    Ledger(out).add([other])
    Ledger(out).folder(other.run_id).metrics.write_text('{"kind": "step"}\n')
    with pytest.raises(UserError, match="all others are") as raised:
        ui.sync(out)
    assert all(name in str(raised.value) for name in ("a-damaged", "b-damaged", other.run_id))
    has_all(Mirror(Ledger(out), default_uri(out)), spec)


def test_a_wiped_tracker_is_filled_again(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    Ledger(out).add(small_specs(train__lr=1e-4))
    command = [str(Path(sys.executable).with_name("tcclip")), "ui", "--sync", "--out", str(out)]
    for wiped in (True, False):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stdout == "1 runs are in MLflow; 1 have not begun\n"
        if wiped:
            (out / "mlflow.db").unlink()
    has_all(Mirror(Ledger(out), default_uri(out)), spec)


@contextmanager
def server(answer: Callable[[bytes], bytes | None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that accepts every connection: its address, and what it was asked.

    `answer`: what to reply to a request's first bytes; None never replies.
    """
    asked: list[bytes] = []
    open_: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                open_.append(connection)
                threading.Thread(target=reply, args=(connection,), daemon=True).start()

        def reply(connection: socket.socket) -> None:
            asked.append(connection.recv(65536))
            reply = answer(asked[-1])
            if reply is not None:
                connection.sendall(reply)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://ann:secret@127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in open_:
            connection.close()


def only_health(request: bytes) -> bytes | None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"
    return ok if b"/health" in request.split(b"\r\n")[0] else None


@pytest.mark.parametrize("answer", [lambda _: None, only_health])
def test_a_server_that_never_answers_does_not_hold_up_the_end_of_a_sweep(
    again: tuple[Path, RunSpec],
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[bytes], bytes | None],
) -> None:
    out, spec = again
    monkeypatch.setattr("experiments.tracking.connection.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("experiments.tracking.sync_thread.END_SECONDS", 2.0)
    console = Console(record=True, width=400, file=io.StringIO())
    with server(answer) as (uri, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        begin = time.monotonic()
        with ui.mirrored(Ledger(out), [spec], console):
            pass
        with ui.keeping_report(out, [spec], console) as (folder, links):
            assert folder.is_dir()
            assert links == {}
        took = time.monotonic() - begin
        assert asked
    assert took < 15, "the defaults of MLflow's client would make it 16 minutes"
    text = console.export_text()
    assert text.count("tcclip ui --sync") == 1, "said once"
    assert "secret" not in text
    assert "127.0.0.1" in text


def test_syncing_with_a_tracker_that_is_down_says_so(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    with pytest.raises(UserError, match=r"cannot be written .*refused.*; see `tcclip doctor`") as e:
        ui.sync(again[0])
    assert "secret" not in str(e.value)


def test_any_answer_is_an_answer() -> None:
    with server(lambda _: b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as (uri, _):
        check_answers(uri)
    check_answers("sqlite:////no/such/file.db")
    assert (
        redact_url("at https://ann:pw@host/x?a=b@c, http://h")
        == "at https://host/x?a=b@c, http://h"
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ann:p@ss@host:80/x", "https://host:80/x"),
        ("https://ann:p/a@host/x", "https://host/x"),
        ("https://ann@host", "https://host"),
        ("http://host:5000/users/ann@work", "http://host:5000/users/ann@work"),
        ("postgresql://h/db?user=ann&password=s3cret&x=1", "postgresql://h/db?user=ann&password=...&x=1"),
        ("https://h/?api_key=abc", "https://h/?api_key=..."),
        ("'http://ann:pw@h' and \"http://bob:pw@h\"", "'http://h' and \"http://h\""),
    ],
)  # fmt: skip
def test_passwords_in_addresses_are_not_shown(address: str, shown: str) -> None:
    assert redact_url(address) == shown


def test_waiting_has_an_end_and_errors_come_through() -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(ConnectionError, match="down"):
        within(5, _unreachable)
    with pytest.raises(TimeoutError, match="no answer within"):
        within(0.01, threading.Event().wait)
