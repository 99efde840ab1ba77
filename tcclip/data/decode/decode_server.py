"""The process that `decoder` starts: answers read requests until the connection closes.

Imports neither torch nor the settings, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcclip.data.decode.reader import UnreadableVideo, read_video

if TYPE_CHECKING:
    from tcclip.config import Reader

#: The process ends itself after this many time limits of one method, if its client is gone.
ORPHAN_FACTOR = 4


def serve(descriptor: int, timeout: float) -> None:
    """Answer requests (path, mode) on the connection `descriptor`.

    Messages back: ("ready",) at the start; ("trying", method); ("choose", frames), answered with
    indices; at last ("clip", clip), ("unreadable", cause) or ("error", message).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(descriptor) as connection:
        connection.send(("ready",))
        while True:
            try:
                path, mode = connection.recv()
            except (EOFError, ConnectionError):
                return
            # The client kills a decoder that hangs; the alarm does if there is no client any more.
            signal.alarm(int(timeout * ORPHAN_FACTOR) + 1)
            connection.send(_answer(connection, Path(path), mode))
            signal.alarm(0)


def _answer(connection: Connection, path: Path, mode: Reader) -> tuple[str, Any]:
    def choose(total: int) -> Sequence[int]:
        connection.send(("choose", total))
        indices: Sequence[int] = connection.recv()
        return indices

    try:
        clip = read_video(path, choose, mode, lambda method: connection.send(("trying", method)))
    except UnreadableVideo as error:
        return "unreadable", error.cause
    except MemoryError:
        return "unreadable", "decoding it needs more memory than there is"
    except ValueError as error:
        return "error", str(error)
    return "clip", clip
