"""Reads videos in a separate process, which can be killed.

A decoder that hangs or crashes takes that process with it, and nothing else: the video is tried
once more in a fresh one. The process is started, not forked, so a loader's worker never inherits
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

from tcclip.config import Reader
from tcclip.data.decode.images.packed_video import is_packed
from tcclip.data.decode.pyav_reader import ChooseFrames
from tcclip.data.decode.reader import Clip, UnreadableVideo, read_video
from tcclip.data.decode.shared_memory import SharedFrames, unnamed_file

#: Times that reading a video may hang or crash: the cause may have been a machine out of memory.
ATTEMPTS = 2
START_SECONDS = 120
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tcclip.data.decode.decode_server import serve; "
    "serve(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))"
)


@dataclass
class Decoder:
    """Reads videos as `read_video` does, each within `timeout` seconds.

    May be copied into other processes; each copy starts its own decoding process when it first
    reads. A video that reached the time limit is not tried again by the same decoder.
    """

    mode: Reader = "auto"
    timeout: float = 60.0
    _process: _DecodingProcess | None = field(default=None, repr=False)
    _failed: dict[str, str] = field(default_factory=dict, repr=False)

    def read(self, path: Path, choose: ChooseFrames) -> Clip:
        """The frames of `path` that `choose` picks from its number of frames.

        A packed video is read in this process: its frames cannot hang a decoder. Raises
        UnreadableVideo with the cause, and MemoryError if the process was killed each time: that
        is how the system ends what takes too much memory, and says nothing of the video.
        """
        if is_packed(path):
            return read_video(path, choose)
        if str(path) in self._failed:
            raise UnreadableVideo(str(path), self._failed[str(path)])
        causes: list[str] = []
        # One process more: it may have died since the last video.
        for _ in range(ATTEMPTS + 1):
            try:
                return self._own_process().read(path, choose, self.mode, self.timeout)
            except UnreadableVideo:
                raise
            except _ProcessStopped as stopped:
                self.close()
                causes += [str(stopped)] if stopped.method else []
                if len(causes) == ATTEMPTS:
                    break
                last = str(stopped)
            except BaseException:
                # The process waits for an answer that will never come.
                self.close()
                raise
        cause = "; ".join(dict.fromkeys(causes)) or last
        if causes and all(signal.SIGKILL.name in one for one in causes):
            raise MemoryError(
                f"{path}: {cause}, as the system ends what takes too much memory; give it more, or "
                "load fewer videos at once"
            )
        self._failed[str(path)] = cause
        raise UnreadableVideo(str(path), cause)

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
        return {"mode": self.mode, "timeout": self.timeout, "_process": None, "_failed": {}}


class _ProcessStopped(Exception):
    """The decoding process hung or died while it tried `method`."""

    def __init__(self, method: str | None, what: str) -> None:
        super().__init__(f"{method or 'the decoding process'}: {what}")
        self.method = method


class _DecodingProcess:
    """One decoding process and the connection to it. `owner`: the process that started it."""

    def __init__(self, timeout: float) -> None:
        self.owner = os.getpid()
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).parents[3])
        self._memory = unnamed_file()
        self._pixels = SharedFrames(self._memory)
        with theirs:
            descriptors = (theirs.fileno(), self._memory)
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, root, *map(str, descriptors), str(timeout)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Decoders write about every damaged byte; what matters comes as messages.
                stderr=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        # A start takes a fraction of a second, or many on an overloaded machine: it does not
        # count towards any video's time limit.
        if not self._connection.poll(START_SECONDS):
            self.stop()
            raise RuntimeError(f"the decoding process did not start within {START_SECONDS} s")

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
                    self._connection.send([int(index) for index in choose(*content)])
                elif kind == "clip":
                    shape, total, reader, damaged = content
                    return Clip(self._pixels.view(shape).copy(), total, reader, damaged)
                elif kind == "unreadable":
                    raise UnreadableVideo(str(path), *content)
                elif kind == "error":
                    raise RuntimeError(f"reading {path}: {content[0]}")
        except (EOFError, ConnectionError) as error:
            raise _ProcessStopped(method, self._exit_cause()) from error

    def _exit_cause(self) -> str:
        self.stop()
        code = self._popen.returncode
        if code < 0:
            return f"the decoder died of {signal.Signals(-code).name}"
        return f"the decoder ended with code {code}"

    def stop(self) -> None:
        """Kill the process, whatever it is doing, and wait until it has ended."""
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
