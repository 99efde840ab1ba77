"""A real S3-compatible server on this machine (moto's), and a way to lose the connection to it."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import s3fs

#: Nothing secret: moto checks no signatures.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
}  # fmt: skip


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """The port of a fresh server on loopback, stopped afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            deadline = time.monotonic() + 60
            while not answers(port):
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            # Clients are kept by what they were made with, which their address is no part of.
            s3fs.S3FileSystem.clear_instance_cache()
            yield port
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def environment(port: int) -> dict[str, str]:
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


class Gate:
    """Forwards connections to `port` while it is open; `shut` cuts them and refuses new ones."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, free_port()
        self._pairs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._server)

    def shut(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for one in self._pairs:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._server, *self._pairs):
            one.close()
        self._pairs, self._threads = [], []

    def __enter__(self) -> "Gate":
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.shut()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = server.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._pairs += [here, there]
                self._start(_pump, here, there)
                self._start(_pump, there, here)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
