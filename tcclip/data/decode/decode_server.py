"""The decoding process of `decoder`: answers requests until the connection closes.

Imports neither torch nor the settings, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import av.logging

from tcclip.data.decode.reader import UnreadableVideo, read_video
from tcclip.data.decode.shared_memory import Exchange

if TYPE_CHECKING:
    from tcclip.config import Reader

#: Beyond the client's limit for a way of reading, times the ways there are.
ORPHAN_FACTOR = 4


def serve(descriptor: int, memory: int, timeout: float) -> None:
    """Answer requests (path, mode, ways not to take) on the connection `descriptor`.

    Messages back: ("ready",) at the start; ("trying", way); ("choose", frames), answered with
    indices; at last ("clip", shape, frames, reader, damaged) with the pixels in `memory`,
    ("unreadable", cause) or ("error", what).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)
    pixels = Exchange(memory)
    with Connection(descriptor) as connection:
        connection.send(("ready",))
        while True:
            try:
                path, mode, without = connection.recv()
            except (EOFError, ConnectionError):
                return
            # The client stops a decoder that hangs; the alarm does if the client is gone.
            signal.alarm(int(timeout * ORPHAN_FACTOR) + 1)
            _answer(connection, pixels, Path(path), mode, without)
            signal.alarm(0)


def _answer(
    connection: Connection, pixels: Exchange, path: Path, mode: Reader, without: Sequence[str]
) -> None:
    def choose(total: int) -> Sequence[int]:
        connection.send(("choose", total))
        indices: Sequence[int] = connection.recv()
        return indices

    try:
        clip = read_video(
            path, choose, mode, without=without, trying=lambda way: connection.send(("trying", way))
        )
    except UnreadableVideo as error:
        connection.send(("unreadable", error.cause))
    except MemoryError:
        connection.send(("unreadable", "decoding it needs more memory than there is"))
    except ValueError as error:
        connection.send(("error", str(error)))
    else:
        pixels.put(clip.frames)
        connection.send(("clip", clip.frames.shape, clip.total_frames, clip.reader, clip.damaged))
