"""Reading videos in a process of their own, which can be killed.

A decoder that hangs or crashes takes that process with it, and nothing else: the next way of
reading is tried in a fresh one. The process is started, not forked, so nothing a decoder
library keeps in memory is ever inherited by a loader's worker.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tcclip
from tcclip.config import Reader
from tcclip.data.decode.reader import Choose, Clip, UnreadableVideo
from tcclip.data.decode.shared_memory import Exchange, anonymous_file

#: Processes one video may cost: one a way of reading, and one that died before it began.
ATTEMPTS = 4
START_SECONDS = 120
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tcclip.data.decode.decode_server import serve; "
    "serve(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))"
)


@dataclass
class Decoder:
    """Reads videos as `read_video`, each way of reading within `timeout` seconds.

    May be copied into other processes; each starts a decoding process of its own when it first
    reads. What could not be read within the limit is not tried again by the same decoder.
    """

    mode: Reader = "auto"
    timeout: float = 60.0
    _process: _Process | None = field(default=None, repr=False)
    _failed: dict[str, str] = field(default_factory=dict, repr=False)

    def read(self, path: Path, choose: Choose) -> Clip:
        """The frames of `path` that `choose` picks from its number of frames.

        Raises UnreadableVideo, with what every way of reading said.
        """
        if str(path) in self._failed:
            raise UnreadableVideo(str(path), self._failed[str(path)])
        without: list[str] = []
        causes: list[str] = []
        for _ in range(ATTEMPTS):
            try:
                return self._running().read(path, choose, self.mode, without, self.timeout)
            except UnreadableVideo as error:
                causes.append(error.cause)
                break
            except _Stopped as stopped:
                self.close()
                causes.append(str(stopped))
                without += [stopped.way] if stopped.way else []
            except BaseException:
                # Half a conversation: the process that is left waiting is of no use.
                self.close()
                raise
        cause = "; ".join(causes)
        if without:
            self._failed[str(path)] = cause
        raise UnreadableVideo(str(path), cause)

    def _running(self) -> _Process:
        # A copy made by fork shares the parent's connection: it must not use it.
        if self._process is None or self._process.owner != os.getpid():
            self._process = _Process(self.timeout)
        return self._process

    def close(self) -> None:
        """Stop the decoding process, if this process has one; the next read starts another."""
        if self._process is not None and self._process.owner == os.getpid():
            self._process.stop()
        self._process = None

    def __getstate__(self) -> dict[str, Any]:
        return {"mode": self.mode, "timeout": self.timeout, "_process": None, "_failed": {}}


class _Stopped(Exception):
    """The decoding process hung or died, in `way` of reading."""

    def __init__(self, way: str | None, what: str) -> None:
        super().__init__(f"{way or 'the decoding process'}: {what}")
        self.way = way


class _Process:
    """One decoding process and the connection to it."""

    def __init__(self, timeout: float) -> None:
        self.owner = os.getpid()
        ours, theirs = socket.socketpair()
        root = str(Path(tcclip.__file__).parents[1])
        self._memory = anonymous_file()
        self._pixels = Exchange(self._memory)
        with theirs:
            ends = (theirs.fileno(), self._memory)
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, root, *map(str, ends), str(timeout)],
                pass_fds=ends,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Decoders write about every damaged byte; what matters comes as messages.
                stderr=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        # A start takes a fraction of a second, or many on a machine that is overloaded: that
        # time is no video's.
        if not self._connection.poll(START_SECONDS):
            self.stop()
            raise RuntimeError(f"no decoding process came up within {START_SECONDS} s")

    def read(
        self, path: Path, choose: Choose, mode: Reader, without: Sequence[str], timeout: float
    ) -> Clip:
        """One request. Raises UnreadableVideo, or _Stopped if no answer came within the limit."""
        way: str | None = None
        try:
            self._connection.send((str(path), mode, tuple(without)))
            while True:
                if not self._connection.poll(timeout):
                    raise _Stopped(way, f"no answer within {timeout:g} s, stopped")
                kind, *content = self._connection.recv()
                if kind == "ready":
                    continue
                if kind == "trying":
                    (way,) = content
                elif kind == "choose":
                    self._connection.send([int(index) for index in choose(*content)])
                elif kind == "clip":
                    return self._clip(*content)
                elif kind == "unreadable":
                    raise UnreadableVideo(str(path), *content)
                else:
                    raise RuntimeError(f"reading {path}: {content[0]}")
        except (EOFError, ConnectionError) as error:
            raise _Stopped(way, self._death()) from error

    def _clip(self, shape: tuple[int, ...], total: int, reader: str, damaged: int) -> Clip:
        return Clip(self._pixels.get(shape), total, reader, damaged)

    def _death(self) -> str:
        self.stop()
        code = self._popen.returncode
        if code < 0:
            return f"the decoder died of {signal.Signals(-code).name}"
        return f"the decoder ended with code {code}"

    def stop(self) -> None:
        """Kill the process, whatever it is doing, and wait until it is gone."""
        if self._connection.closed:
            return
        self._connection.close()
        os.close(self._memory)
        try:
            self._popen.wait(0.2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def __del__(self) -> None:
        if self.owner == os.getpid():
            self.stop()
