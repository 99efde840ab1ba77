"""The pixels of one's own videos, read and cropped as an evaluation does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import torch

from tcclip.config import AugmentConfig, Views
from tcclip.data.clips import EvalClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.sampling import Indices
from tcclip.predict.windows import Span, Timeline, probe

#: Pixels as decoded that are held at once of a long video.
BLOCK_BYTES = 2**29
#: Seconds that a read may take: an hour of video takes minutes where every frame is decoded.
TIMEOUT = 600.0


class Source(NamedTuple):
    """A video. `name`: what its random views are drawn by, as a list would have it."""

    path: Path
    name: str

    @classmethod
    def of(cls, video: str | Path | Source) -> Source:
        return video if isinstance(video, Source) else cls(Path(video), Path(video).name)


class Block(NamedTuple):
    """Some windows of a video: (windows, views, T, 3, S, S) uint8. `total`: frames of the video;
    `rate`: frames a second, None if it is not known or was not asked for."""

    video: torch.Tensor
    spans: Sequence[Span]
    total: int
    rate: float | None


class ClipReader:
    """Reads views of videos in a process of its own, which it keeps; for one thread at a time."""

    def __init__(self, augment: AugmentConfig, num_frames: int, views: Views, seed: int) -> None:
        self._clips = EvalClips(
            (), Path, num_frames=num_frames, augment=augment, views=views, seed=seed,
            decoder=Decoder(augment.reader, TIMEOUT),
        )  # fmt: skip

    def read(self, source: Source, timeline: Timeline | None = None) -> Iterator[Block]:
        """A video as one window, or the windows of a timeline, some at a time.

        Raises UnreadableVideo.
        """
        if timeline is None:
            yield self._block(source, None, lambda total: [(0, total)])
            return
        rate, frame_bytes = probe(source.path)
        if rate is None and timeline.needs_rate:
            cause = "its frames a second are not known; give lengths in frames, such as 64f"
            raise UnreadableVideo(str(source.path), cause)
        of_window = self._clips.num_frames * self._clips.views.clips
        most = max(1, BLOCK_BYTES // (frame_bytes * of_window))
        first = self._block(source, rate, lambda total: timeline.spans(total, rate)[:most])
        yield first
        spans = timeline.spans(first.total, rate)
        for start in range(most, len(spans), most):
            yield self._block(source, rate, partial(_within, spans[start : start + most]))

    def _block(
        self, source: Source, rate: float | None, spans: Callable[[int], list[Span]]
    ) -> Block:
        """The windows that `spans` gives of the number of frames."""
        last: list[tuple[int, list[Span]]] = []

        def choose(total: int) -> Indices:
            # Called again if the file does not hold as many frames as it says.
            last[:] = [(total, spans(total))]
            chosen = [
                start + self._clips.indices(end - start, source.name).flatten()
                for start, end in last[0][1]
            ]
            return np.concatenate(chosen)

        video, _ = self._clips.read(source.path, choose)
        total, read = last[0]
        return Block(video.unflatten(0, (len(read), -1)), read, total, rate)

    def close(self) -> None:
        self._clips.decoder.close()


def _within(spans: Sequence[Span], total: int) -> list[Span]:
    """`spans`, cut to a video of `total` frames: a file that changed is no reason to fail."""
    return [(min(start, total - 1), min(end, total)) for start, end in spans]


def read_all(
    make_reader: Callable[[], ClipReader], sources: Sequence[Source], workers: int, ahead: int
) -> Generator[Block | UnreadableVideo, None, None]:
    """Each of `sources` as one window, or why it cannot be read, in order.

    `workers` readers read at once, up to `ahead` videos more than were taken.
    """
    idle = SimpleQueue[ClipReader]()

    def read(source: Source) -> Block | UnreadableVideo:
        reader = idle.get()
        try:
            return next(reader.read(source))
        except UnreadableVideo as error:
            return error
        finally:
            idle.put(reader)

    with ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(closing(make_reader())))
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)
        reading: deque[Future[Block | UnreadableVideo]] = deque()
        for source in sources:
            reading.append(pool.submit(read, source))
            if len(reading) > workers + ahead:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()
