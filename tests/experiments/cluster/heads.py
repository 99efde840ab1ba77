"""Heads of Ray clusters for tests: real ones, and ports that only greet like one."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: With this a gRPC server greets: empty settings.
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
RAY = (sys.executable, "-P", "-m", "ray.scripts.scripts")


@contextmanager
def greeting(said: bytes) -> Iterator[str]:
    """The address of a program that says `said` to whoever connects, and keeps the connection."""
    kept = []

    def serve() -> None:
        with suppress(OSError):  # closed
            while True:
                kept.append(server.accept()[0])
                kept[-1].sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in kept:
                one.close()


def start_head(
    base: Path, port: int, *, jobs: int | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """`ray start --head` on two CPUs; its files are in `base`. It ends when it is terminated.

    `jobs`: the port at which it takes jobs; that needs the packages of ray[default].
    """
    dashboard = ["--include-dashboard=false"]
    if jobs is not None:
        dashboard = ["--include-dashboard=true", f"--dashboard-port={jobs}"]
    process = subprocess.Popen(
        [*RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
         *dashboard, "--object-store-memory=80000000", "--disable-usage-stats"],
        env={**os.environ, "RAY_TMPDIR": str(base), **environment}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (base / "ray" / "ray_current_cluster").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return process
