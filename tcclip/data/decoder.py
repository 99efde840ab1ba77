"""Reading videos in a process of their own, which can be killed."""

from __future__ import annotations

from pathlib import Path

from tcclip.config import Reader
from tcclip.data.forward import DecodingError
from tcclip.data.reader import Choose, Clip, UnreadableVideo, read_video


class Decoder:
    """Reads videos within `timeout` seconds each; safe to copy into other processes."""

    def __init__(self, mode: Reader = "auto", timeout: float = 60.0) -> None:
        self.mode, self.timeout = mode, timeout

    def read(self, path: Path, choose: Choose) -> Clip:
        """As `read_video`."""
        try:
            return read_video(path, choose, self.mode)
        except DecodingError as error:
            raise UnreadableVideo(str(path), str(error)) from error
