"""An S3 server on this machine (moto), for tests of what is kept in object stores."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def s3_server(port: int) -> Iterator[str]:
    """Its address. It forgets everything when the context ends."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            _wait(address, process)
            yield address
        finally:
            process.terminate()


def use(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let S3 clients of this process and of those it starts reach the server at `address`."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def post(address: str, command: str, text: str = "") -> None:
    """One of moto's own commands: `reset`, or `reset-auth` with the calls that need no rights."""
    request = urllib.request.Request(
        f"{address}/moto-api/{command}", data=text.encode(), headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def _wait(address: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/moto-api/", timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"moto did not come up at {address}")
