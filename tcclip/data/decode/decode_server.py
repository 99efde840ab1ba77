"""The process that `decoder` starts: answers read requests until the connection closes.

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
from tcclip.data.decode.shared_memory import SharedFrames

if TYPE_CHECKING:
    from tcclip.config import Reader

#: The process ends itself after this many time limits of one method, if its client is gone.
ORPHAN_FACTOR = 4


def serve(descriptor: int, memory: int, timeout: float) -> None:
    """Answer requests (path, mode) on the connection `descriptor`.

    Messages back: ("ready",) at the start; ("trying", method); ("choose", frames), answered with
    indices; at last ("clip", shape, frames, reader, damaged) with the pixels in `memory`,
    ("unreadable", cause) or ("error", message).
    """
    # What pauses a sweep is sent to the processes of its group too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)
    pixels = SharedFrames(memory)
    with Connection(descriptor) as connection:
        connection.send(("ready",))
        while True:
            try:
                path, mode = connection.recv()
            except (EOFError, ConnectionError):
                return
            # The client kills a decoder that hangs; the alarm does if there is no client any more.
            signal.alarm(int(timeout * ORPHAN_FACTOR) + 1)
            _answer(connection, pixels, Path(path), mode)
            signal.alarm(0)


def _answer(connection: Connection, pixels: SharedFrames, path: Path, mode: Reader) -> None:
    def choose(total: int) -> Sequence[int]:
        connection.send(("choose", total))
        indices: Sequence[int] = connection.recv()
        return indices

    try:
        clip = read_video(
            path, choose, mode,
            on_attempt=lambda method: connection.send(("trying", method)),
        )  # fmt: skip
    except UnreadableVideo as error:
        connection.send(("unreadable", error.cause))
    except MemoryError:
        connection.send(("unreadable", "decoding it needs more memory than there is"))
    except ValueError as error:
        connection.send(("error", str(error)))
    else:
        pixels.write(clip.frames)
        connection.send(("clip", clip.frames.shape, clip.total_frames, clip.reader, clip.damaged))
