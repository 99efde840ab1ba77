"""Reads videos in a separate process, which can be killed.

A decoder that hangs or crashes takes that process with it, and nothing else: after decord, PyAV
is tried in a fresh one. The process is started, not forked, so a loader's worker never inherits
what a decoder library keeps in memory.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tcclip
from tcclip.config import Reader
from tcclip.data.decode.pyav_reader import ChooseFrames
from tcclip.data.decode.reader import Clip, UnreadableVideo

#: Processes one video may cost: decord's, PyAV's, and one that died before it began.
ATTEMPTS = 3
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tcclip.data.decode.decode_server import serve; "
    "serve(int(sys.argv[2]), float(sys.argv[3]))"
)


@dataclass
class Decoder:
    """Reads videos as `read_video` does, each method within `timeout` seconds.

    May be copied into other processes; each copy starts its own decoding process when it first
    reads.
    """

    mode: Reader = "auto"
    timeout: float = 60.0
    _process: _DecodingProcess | None = field(default=None, repr=False)

    def read(self, path: Path, choose: ChooseFrames) -> Clip:
        """The frames of `path` that `choose` picks from its number of frames.

        Raises UnreadableVideo with the cause from every method.
        """
        mode, causes = self.mode, []
        for _ in range(ATTEMPTS):
            try:
                return self._own_process().read(path, choose, mode, self.timeout)
            except UnreadableVideo as error:
                causes.append(error.cause)
                break
            except _ProcessStopped as stopped:
                self.close()
                method, what = stopped.args
                causes.append(f"{method or 'the decoding process'}: {what}")
                if mode == "auto" and method == "decord":
                    mode = "pyav"
                elif method:
                    break
            except BaseException:
                # The process waits for an answer that will never come.
                self.close()
                raise
        raise UnreadableVideo(str(path), "; ".join(causes))

    def _own_process(self) -> _DecodingProcess:
        # A forked copy shares its parent's connection and must not use it.
        if self._process is None or self._process.owner != os.getpid():
            self._process = _DecodingProcess(self.timeout)
        return self._process

    def close(self) -> None:
        """Stop the decoding process if this process started one; the next read starts another."""
        if self._process is not None and self._process.owner == os.getpid():
            self._process.stop()
        self._process = None

    def __getstate__(self) -> dict[str, Any]:
        return {"mode": self.mode, "timeout": self.timeout, "_process": None}


class _ProcessStopped(Exception):
    """The decoding process hung or died: the method it tried (None at first), and what it did."""


class _DecodingProcess:
    """One decoding process and the connection to it. `owner`: the process that started it."""

    def __init__(self, timeout: float) -> None:
        self.owner = os.getpid()
        ours, theirs = socket.socketpair()
        root = str(Path(tcclip.__file__).parents[1])
        with theirs:
            descriptor = theirs.fileno()
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, root, str(descriptor), str(timeout)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Decoders write about every damaged byte; what matters comes as messages.
                stderr=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        # A start takes a fraction of a second, or many on an overloaded machine: it does not
        # count towards any video's time limit.
        self._connection.poll(None)

    def read(self, path: Path, choose: ChooseFrames, mode: Reader, timeout: float) -> Clip:
        """One request. Raises UnreadableVideo, or _ProcessStopped if no answer came in time."""
        method: str | None = None
        try:
            self._connection.send((str(path), mode))
            while True:
                if not self._connection.poll(timeout):
                    raise _ProcessStopped(method, f"no answer within {timeout:g} s, stopped")
                kind, *content = self._connection.recv()
                if kind == "trying":
                    (method,) = content
                elif kind == "choose":
                    self._connection.send(choose(*content))
                elif kind == "clip":
                    clip: Clip = content[0]
                    return clip
                elif kind == "unreadable":
                    raise UnreadableVideo(str(path), *content)
                elif kind == "error":
                    raise RuntimeError(f"reading {path}: {content[0]}")
        except (EOFError, OSError) as error:
            self.stop()
            code = self._popen.returncode
            end = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise _ProcessStopped(method, f"the decoder {end}") from error

    def stop(self) -> None:
        """Kill the process, whatever it is doing, and wait until it has ended."""
        if self._connection.closed:
            return
        self._connection.close()
        try:
            self._popen.wait(0.2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def __del__(self) -> None:
        if self.owner == os.getpid():
            self.stop()
