"""Prepared frames of a video: from the cache, or decoded, once on this machine, and kept there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcclip.data.cache.entry import Damaged, Frames, Header, frame_labels, packed, read_header
from tcclip.data.cache.identity import Stamp, code_version, content_digest, stamp
from tcclip.data.cache.store import Store
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.pyav_reader import ChooseFrames
from tcclip.data.decode.reader import Clip

#: Pixels as decoded that are held at once while all frames of a video are read.
BLOCK_BYTES = 2**27
#: What is counted beside clips and views: entries that were not as written, and (with the reason)
#: videos that the cache could not keep.
DAMAGED, NOT_KEPT = "cache_damaged", "not kept: "


class Prepared(NamedTuple):
    """Frames (T, ...) uint8 of one video as `Cached.prepare` makes them, and where they are from.

    `reader`: the method that read them. `decoded` (T,): which of them had to be decoded now.
    `notes`: counts of what else happened, see `DAMAGED`.
    """

    frames: Frames
    reader: str
    decoded: NDArray[np.bool_]
    notes: Counter[str]


@dataclass
class Cached:
    """Reads videos by `decoder`, or from `store`, where there is one, what was read before.

    `prepare`: (n, H, W, 3) uint8 -> (n, ...) uint8, frame by frame; `prepared_as` says how, in
    words that differ where the frames would. `whole`: all frames of a video are kept at its first
    use if they take at most so many bytes, else none; None: those that are asked for.
    `prepare_unkept`: also frames that are not to be kept. `kind`: ending of the files.
    """

    decoder: Decoder
    prepare: Callable[[Frames], Frames]
    prepared_as: str
    kind: str
    store: Store | None = None
    whole: int | None = None
    prepare_unkept: bool = True
    _too_large: set[Path] = field(default_factory=set)

    def read(self, path: Path, choose: ChooseFrames) -> Prepared:
        """The frames of `path` that `choose` picks from its number of frames.

        Raises UnreadableVideo as the decoder does.
        """
        notes: Counter[str] = Counter()
        known_as = None if self.store is None or path in self._too_large else stamp(path)
        if self.store is not None and known_as is not None:
            digest = content_digest(path, known_as, self.store)
            if digest is not None:
                of_video = _OneVideo(self, self.store, path, known_as, self._name(digest), notes)
                return of_video.read(choose)
        clip = self.decoder.read(path, choose)
        frames = self.prepare(clip.frames) if self.prepare_unkept else clip.frames
        return Prepared(frames, clip.reader, np.ones(len(frames), np.bool_), notes)

    def _name(self, content: str) -> str:
        parts = (content, self.prepared_as, self.decoder.mode, code_version())
        return f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:32]}.{self.kind}"


@dataclass
class _OneVideo:
    """Reads one video, and keeps what it decodes."""

    cached: Cached
    store: Store
    path: Path
    known_as: Stamp
    name: str
    notes: Counter[str]

    def read(self, choose: ChooseFrames) -> Prepared:
        found = self._kept(choose)
        if found is None:
            # What another process decodes at this moment is waited for.
            with self.store.locked(self.name, self.cached.decoder.timeout):
                found = self._kept(choose) or self._decoded(choose)
        return found

    def _kept(self, choose: ChooseFrames) -> Prepared | None:
        """The frames from the cache; None unless all are there."""

        def wanted(header: Header) -> list[str] | None:
            labels = frame_labels(_wanted(choose, header.total), header.exact)
            return labels if header.checks.keys() >= set(labels) else None

        found = self._read(wanted)
        if found is None:
            return None
        header, frames = found
        return Prepared(frames, header.reader, np.zeros(len(frames), np.bool_), self.notes)

    def _read(
        self, which: Callable[[Header], Sequence[str] | None]
    ) -> tuple[Header, Frames] | None:
        """The entry's header and the frames `which` picks; None without it, or if it picks None."""
        file = self.store.open(self.name)
        if file is None:
            return None
        with file:
            try:
                header = read_header(file, self.name)
                labels = which(header)
                if labels is None:
                    return None
                return header, header.frames(file, file.tell(), labels)
            except (Damaged, OSError):
                self.notes[DAMAGED] = 1
                self.store.remove(self.name)
                return None

    def _decoded(self, choose: ChooseFrames) -> Prepared:
        """Decode what is not in the cache, and put it there."""
        before = self._read(lambda header: list(header.checks))
        header = None if before is None else before[0]
        clip, missing = self._decode(choose, header)
        exact = self._exact(clip) and (header is None or header.exact)
        wanted = _wanted(choose, clip.total_frames)
        indices = wanted if missing is None else missing
        labels = frame_labels(wanted, exact)
        new = dict(zip(frame_labels(indices, exact), self.cached.prepare(clip.frames), strict=True))
        frames = dict(new)
        if before is not None and _alike(before[0], clip, exact):
            frames = dict(zip(before[0].checks, before[1], strict=True)) | new
        self._keep(frames, clip, exact)
        return Prepared(
            np.stack([frames[label] for label in labels]),
            clip.reader,
            np.array([label in new for label in labels]),
            self.notes,
        )

    def _decode(self, choose: ChooseFrames, header: Header | None) -> tuple[Clip, list[int] | None]:
        """The frames that the entry lacks, and their indices; or all that are wanted, and None."""
        decoder = self.cached.decoder
        if header is not None and header.exact:
            lacking = [
                index
                for index in sorted(set(_wanted(choose, header.total)))
                if str(index) not in header.checks
            ]
            known = header.total
            clip = decoder.read(self.path, lambda total: lacking if total == known else [0])
            if clip.total_frames == known and _alike(header, clip, self._exact(clip)):
                return clip, lacking
        return decoder.read(self.path, choose), None

    def _exact(self, clip: Clip) -> bool:
        """Whether frames do not depend on what is read with them.

        They may in damaged files, and do where decord seeks as for the published numbers.
        """
        return not clip.damaged and self.cached.decoder.mode != "published"

    def _keep(self, frames: dict[str, Frames], clip: Clip, exact: bool) -> None:
        """Write the entry, of all frames of the video if it is to be kept whole."""
        whole = self.cached.whole
        if whole is not None:
            size = next(iter(frames.values())).nbytes
            if not exact or size * clip.total_frames > whole:
                self.cached._too_large.add(self.path)
                return
            frames |= self._others(frames, clip)
        if stamp(self.path) != self.known_as:
            return  # it was replaced while it was read
        parts = packed(self.name, clip.total_frames, clip.reader, exact, frames)
        reason = self.store.write(self.name, parts)
        if reason is not None:
            self.notes[NOT_KEPT + reason] += 1

    def _others(self, frames: dict[str, Frames], clip: Clip) -> dict[str, Frames]:
        """All other frames of the video, decoded in blocks; only those before the first damage."""
        lacking = [index for index in range(clip.total_frames) if str(index) not in frames]
        step = max(1, BLOCK_BYTES // clip.frames[0].nbytes)
        found: dict[str, Frames] = {}
        for block in (lacking[start : start + step] for start in range(0, len(lacking), step)):
            other = self.cached.decoder.read(self.path, partial(_these, block))
            same = (other.total_frames, other.reader) == (clip.total_frames, clip.reader)
            if not same or not self._exact(other):
                break
            found |= zip(map(str, block), self.cached.prepare(other.frames), strict=True)
        return found


def _these(indices: Sequence[int], total: int) -> Sequence[int]:
    return indices


def _wanted(choose: ChooseFrames, total: int) -> list[int]:
    return [int(index) for index in choose(total)]


def _alike(header: Header, clip: Clip, exact: bool) -> bool:
    """Whether frames of an entry and of a clip may stand in one entry."""
    return (header.total, header.reader, header.exact) == (clip.total_frames, clip.reader, exact)
