"""MLflow's server on PostgreSQL is gone for a while in the middle of a sweep, and nothing is lost.

    python -m tests.outage                       # PostgreSQL, then the server, each for a minute
    python -m tests.outage --seconds 20 --which server

Needs PostgreSQL's programs and, as root, its user `postgres` (Debian: apt install postgresql), and
psycopg2 (pip install --require-hashes -r docker/requirements-server.txt). Both servers are started
here, on loopback, with the options of docker/compose.yaml. Checked: the sweep ends with exit status
0; after `tcclip ui --sync` every run is in MLflow once, FINISHED, with every metric of its
metrics.jsonl exactly once; a second sync changes nothing. Exit status 1 and the differences if not.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
RUNS = (
    "--models", "tc_clip,vifi_clip", "--seeds", "0", "--max-concurrent", "1",
    "--set", "model.num_frames=4", "--set", "train.epochs=8",
)  # fmt: skip
#: How long a server may take to answer, and a sweep to end; seconds.
START, END = 240.0, 1800.0


class Postgres:
    """A database of its own, on loopback, as a user without rights."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        initdb = next((str(one / "initdb") for one in found), None) or shutil.which("initdb")
        if initdb is None:
            raise SystemExit("PostgreSQL's initdb was not found; on Debian: apt install postgresql")
        self.bin, self.folder, self.port = Path(initdb).parent, folder / "postgres", free_port()
        self.password = secrets.token_hex(16)
        self.folder.mkdir()
        file = self.folder / "password"
        file.write_text(self.password)
        if os.geteuid() == 0:
            for path in (folder.parent, folder):  # the temporary folder is root's alone
                path.chmod(0o755)
            for path in (self.folder, file):
                shutil.chown(path, "postgres")
        self._call("initdb", "-U", "mlflow", f"--pwfile={file}", "-A", "scram-sha-256")
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} "
            f"-c unix_socket_directories={self.folder}"
        )
        self._call("pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-m", "fast", "-w", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.bin / program), *arguments], check=True, stdout=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None, cwd=self.folder,
            env={"PATH": os.defpath, "PGDATA": str(self.folder / "data"),
                 "PGPASSWORD": self.password, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip


class Server:
    """MLflow's server on a database, with the options of docker/compose.yaml."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.folder, self.database, self.port = folder / "server", database, free_port()
        self.folder.mkdir()
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "mlflow"), "server", "--backend-store-uri", self.database.uri,
                 "--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts"),
                 "--host=127.0.0.1", f"--port={self.port}",
                 "--allowed-hosts=127.0.0.1:*,localhost:*"],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PGPASSWORD": self.database.password,
                     "MLFLOW_DISABLE_TELEMETRY": "true"},
            )  # fmt: skip
        wait("MLflow's server answers", START, self._answers)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"MLflow's server ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait(what: str, seconds: float, true: Callable[[], bool]) -> None:
    """Until `true`; SystemExit if it takes too long."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.2)


def recorded(out: Path) -> dict[str, Counter[tuple[str, int]]]:
    """run id -> how often each (metric, step) should be in MLflow, from the run's files."""
    names = {
        "step": {"loss": "loss", "lr": "lr", "lr_fast": "lr_fast"},
        "epoch": {"loss": "epoch/loss", "top1": "epoch/val_top1", "top5": "epoch/val_top5",
                  "train_seconds": "epoch/train_seconds"},
    }  # fmt: skip
    found: dict[str, Counter[tuple[str, int]]] = {}
    for folder in sorted((out / "runs").iterdir()):
        counts = found[folder.name] = Counter()
        metrics = folder / "metrics.jsonl"
        for line in metrics.read_text().splitlines() if metrics.exists() else ():
            if not line.endswith("}"):
                continue  # being written just now
            record = json.loads(line)
            known = names.get(record["kind"], {})
            counts.update((known[name], record["step"]) for name in record if name in known)
    return found


def mirrored(uri: str) -> dict[str, list[tuple[str, Counter[tuple[str, int]]]]]:
    """run id -> of each of its copies in MLflow: the status, and how often each metric is there."""
    from mlflow.tracking import MlflowClient

    from experiments.tracking.logged_models import TEST

    client = MlflowClient(uri)
    found: dict[str, list[tuple[str, Counter[tuple[str, int]]]]] = {}
    ids = [one.experiment_id for one in client.search_experiments()]
    for run in client.search_runs(ids, "tags.`tcclip.run_id` != ''", max_results=1000):
        # Those of the finished run are from its result.
        keys = [key for key in run.data.metrics if not key.startswith(("final/", TEST))]
        points = [one for key in keys for one in client.get_metric_history(run.info.run_id, key)]
        counts = Counter((point.key, point.step) for point in points)
        found.setdefault(run.data.tags["tcclip.run_id"], []).append((run.info.status, counts))
    return found


def differences(out: Path, uri: str) -> list[str]:
    """What of the runs is not exactly once in MLflow; nothing, if all is well."""
    expected, found = recorded(out), mirrored(uri)
    wrong = [f"{run}: in MLflow, and not in {out}" for run in found if run not in expected]
    for run, counts in expected.items():
        copies = found.get(run, [])
        if [status for status, _ in copies] != ["FINISHED"]:
            wrong.append(f"{run}: copies in MLflow: {[status for status, _ in copies]}")
            continue
        for at in sorted(counts | copies[0][1]):
            if counts[at] != copies[0][1][at]:
                wrong.append(f"{run}: {at} is there {copies[0][1][at]} times, not {counts[at]}")
    return wrong


def tcclip(*arguments: str, out: Path, uri: str) -> subprocess.Popen[bytes]:
    """The command, with MLflow at `uri`; its output goes to a file beside `out`."""
    with (out.parent / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            [str(BIN / "tcclip"), *arguments, "--out", str(out)], cwd=out.parent,
            stdout=log, stderr=log,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri,
                 "TCCLIP_CACHE": str(out.parent / "cache")},
        )  # fmt: skip


def check(folder: Path, server: Server, away: Any, name: str, seconds: float) -> list[str]:
    """A sweep in the middle of which `away` (a server or a database) is stopped for `seconds`."""
    out = folder / "sweep" / "out"
    out.parent.mkdir()
    sweep = tcclip("sweep", "zero_shot", "--demo", *RUNS, out=out, uri=server.uri)
    try:
        wait(
            "the first run is in MLflow", END,
            lambda: any(counts for copies in mirrored(server.uri).values() for _, counts in copies),
        )  # fmt: skip
        assert sweep.poll() is None, "the sweep ended too early"
        away.stop()
        before = sum(counts.total() for counts in recorded(out).values())
        print(f"{name} stopped with {before} values recorded", flush=True)
        time.sleep(seconds)
        during = sum(counts.total() for counts in recorded(out).values())
        away.start()
        print(f"{name} started again; {during - before} values were recorded meanwhile", flush=True)
        status = sweep.wait(END)
    finally:
        sweep.kill()
    wrong = [] if status == 0 else [f"the sweep ended with {status}"]
    if during == before:
        wrong.append("nothing was recorded while it was away: nothing was shown")
    print(f"before any sync: {len(differences(out, server.uri))} differences", flush=True)
    for number in (1, 2):
        if tcclip("ui", "--sync", out=out, uri=server.uri).wait() != 0:
            wrong.append(f"sync {number} failed")
        wrong += [f"after sync {number}: {text}" for text in differences(out, server.uri)]
    if not wrong:
        total = sum(counts.total() for counts in recorded(out).values())
        print(f"{name}: {total} values of {len(recorded(out))} runs are there once", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is away")
    parser.add_argument("--which", choices=("both", "database", "server"), default="both")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="tcclip-outage-"))
    wrong = []
    for name in ("database", "server") if options.which == "both" else (options.which,):
        place = folder / name
        place.mkdir()
        database = Postgres(place)
        try:
            server = Server(place, database)
            try:
                away = database if name == "database" else server
                wrong += check(place, server, away, name, options.seconds)
            finally:
                server.stop()
        finally:
            database.stop()
    if wrong:
        print("\n".join(wrong), f"\nin {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
