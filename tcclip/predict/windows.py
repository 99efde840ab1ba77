"""Where a long video is looked at: lengths in words, and spans of frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.decode.video_file import DecodingError, open_video

#: From its first frame up to the one behind its last.
Span = tuple[int, int]
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|f|frames)", re.ASCII)
#: Taken for frames of a folder, which are not looked at for it.
_FULL_HD = 3 * 1920 * 1080
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0}


@dataclass(frozen=True)
class Length:
    """Of a part of a video: `seconds`, or else `frames`."""

    seconds: float | None = None
    frames: int | None = None

    @classmethod
    def of(cls, value: str | float, name: str) -> Length:
        """`"4s"`, `"500ms"`, `"2m"`, `"64f"` (frames), or a number of seconds.

        ValueError, which calls it `name`, for anything else and for nothing at all.
        """
        text = value if isinstance(value, str) else f"{value}s"
        match = _LENGTH.fullmatch(text.strip())
        if match is None or not float(match[1]):
            raise ValueError(
                f"{name} {value!r}: give a length such as 4s, 500ms, 2m or 64f (frames)"
            )
        if match[2] in _SECONDS:
            return cls(seconds=float(match[1]) * _SECONDS[match[2]])
        return cls(frames=max(1, round(float(match[1]))))

    def in_frames(self, rate: float | None) -> int:
        """How many frames that is, at least one. `rate`: frames a second, known if it matters."""
        if self.seconds is None or rate is None:
            return self.frames or 1
        return max(1, round(self.seconds * rate))


@dataclass(frozen=True)
class Timeline:
    """Windows of one length, one every `stride`."""

    window: Length
    stride: Length

    @classmethod
    def of(cls, window: str | float, stride: str | float | None) -> Timeline:
        """Without `stride`, one window begins where the last ends. ValueError as `Length.of`."""
        length = Length.of(window, "window")
        return cls(length, length if stride is None else Length.of(stride, "stride"))

    @property
    def needs_rate(self) -> bool:
        return self.window.seconds is not None or self.stride.seconds is not None

    def spans(self, total: int, rate: float | None) -> list[Span]:
        """The windows of a video of `total` frames. The last one ends with the video, so it may
        begin earlier than a stride after the one before; a short video is one window."""
        size = min(self.window.in_frames(rate), total)
        starts = list(range(0, total - size + 1, self.stride.in_frames(rate)))
        if starts[-1] + size < total:
            starts.append(total - size)
        return [(start, start + size) for start in starts]


def probe(path: Path) -> tuple[float | None, int]:
    """(frames a second on average, None if the file does not say; bytes of a frame in RGB).

    UnreadableVideo for what cannot be opened.
    """
    if path.is_dir():
        return None, _FULL_HD
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    try:
        with open_video(path) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
            return float(rate) if rate else None, 3 * stream.width * stream.height
    except DecodingError as error:
        raise UnreadableVideo(str(path), str(error)) from error
