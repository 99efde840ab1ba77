"""Frames from the cache are those that are decoded, whatever the cache's state."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcclip.data.cache.entry import Frames
from tcclip.data.cache.frames import DAMAGED, NOT_KEPT, Cached
from tcclip.data.cache.store import Store
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import Clip

TOTAL, SIZE = 12, 6 * 8 * 3


class Fake(Decoder):
    """A video's frames follow from the file's bytes; `asked` is what was decoded of them."""

    def __init__(self, mode: Any = "auto", damaged: int = 0, seconds: float = 0.0) -> None:
        super().__init__(mode, timeout=20)
        self.asked: list[list[int]] = []
        self.damaged, self.seconds = damaged, seconds

    def read(self, path: Path, choose: Callable[[int], Sequence[int]]) -> Clip:
        content = path.read_bytes() if path.is_file() else (path / "img_1.jpg").read_bytes()
        wanted = [int(index) for index in choose(TOTAL)]
        self.asked.append(wanted)
        time.sleep(self.seconds)
        frames = np.stack([_frame(content, index) for index in wanted])
        return Clip(frames, TOTAL, "pyav", self.damaged)


def _frame(content: bytes, index: int) -> Frames:
    return np.random.default_rng([index, *content]).integers(0, 256, (6, 8, 3), np.uint8)


def half(frames: Frames) -> Frames:
    """What stands for the transform."""
    return frames // 2


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"content")
    os.utime(path, (1e9, 1e9))
    return path


def store(tmp_path: Path, limit: int = 10**9) -> Store:
    return Store(tmp_path / "frames", limit)


def cached(decoder: Decoder, where: Store | None, **settings: Any) -> Cached:
    return Cached(decoder, half, "halved", "test", where, **settings)


def entry(where: Store) -> Path:
    (found,) = [one.path for one in where.files() if one.path.suffix != ".id"]
    return found


def check(reader: Cached, video: Path, indices: list[int], decoded: list[int]) -> Any:
    """Read `indices`; exactly `decoded` of them were decoded."""
    found = reader.read(video, lambda total: indices)
    expected = np.stack([_frame(video.read_bytes(), index) // 2 for index in indices])
    assert np.array_equal(found.frames, expected)
    assert found.reader == "pyav"
    assert [index for index, new in zip(indices, found.decoded, strict=True) if new] == decoded
    return found.notes


def test_a_frame_is_decoded_once_whatever_view_it_is_in(tmp_path: Path, video: Path) -> None:
    decoder = Fake()
    reader = cached(decoder, store(tmp_path))
    check(reader, video, [1, 4, 4, 9], [1, 4, 4, 9])
    check(reader, video, [4, 9], [])
    check(cached(decoder, store(tmp_path)), video, [0, 4, 9, 11], [0, 11])
    check(reader, video, [11, 0, 1], [])
    assert decoder.asked == [[1, 4, 4, 9], [0, 11]]
    check(cached(decoder, None), video, [1, 4], [1, 4])


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def _pixels(path: Path, change: Callable[[bytes], bytes]) -> None:
    header, _, pixels = path.read_bytes().partition(b"\n")
    assert len(pixels) == 2 * SIZE and change(pixels) != pixels
    path.write_bytes(header + b"\n" + change(pixels))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "header": lambda path: _flip(path, 30),
    "check of the header": lambda path: _flip(path, 2),
    "frame": lambda path: _flip(path, -SIZE - 3),
    "a byte": lambda path: _pixels(path, lambda p: p[:7] + bytes([p[7] ^ 255]) + p[8:]),
    "a block of zeros": lambda path: _pixels(path, lambda p: p[:16] + bytes(64) + p[80:]),
    "blocks exchanged": lambda path: _pixels(path, lambda p: p[64:128] + p[:64] + p[128:]),
    "rows exchanged": lambda path: _pixels(path, lambda p: p[24:48] + p[:24] + p[48:]),
    "frames exchanged": lambda path: _pixels(path, lambda p: p[SIZE:] + p[:SIZE]),
    "a frame twice": lambda path: _pixels(path, lambda p: p[:SIZE] * 2),
    "shifted": lambda path: _pixels(path, lambda p: p[1:] + p[:1]),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:-SIZE] + bytes(SIZE)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "no frames": lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[0]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("deadbeef {}\n"),
    "another video's": lambda path: path.write_bytes(
        next(p for p in path.parent.parent.rglob("*.test") if p != path).read_bytes()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_decoded_again_and_counted(
    damage: str, tmp_path: Path, video: Path
) -> None:
    where = store(tmp_path)
    reader = cached(Fake(), where)
    check(reader, video, [1, 4], [1, 4])
    path = entry(where)
    other = tmp_path / "other.mp4"
    other.write_bytes(b"another")
    check(reader, other, [1, 4], [1, 4])
    DAMAGES[damage](path)
    assert check(reader, video, [1, 4], [1, 4]) == {DAMAGED: 1}
    assert check(reader, video, [1, 4], []) == {}


@pytest.mark.parametrize("limit", [10, SIZE * 3])
def test_a_full_cache_changes_nothing(tmp_path: Path, video: Path, limit: int) -> None:
    reader = cached(Fake(), store(tmp_path, limit))
    for _ in range(2):
        notes = check(reader, video, [1, 4, 9, 10], [1, 4, 9, 10])
        assert notes == {f"{NOT_KEPT}it is larger than the cache": 1}


@pytest.mark.parametrize("warm", [True, False])
def test_a_cache_that_cannot_be_written(
    warm: bool, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root one may write everywhere: the system's answer is put in its place."""
    reader = cached(Fake(), store(tmp_path))
    if warm:
        check(reader, video, [1, 4], [1, 4])

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: (real if mode == "rb" else refuse)(self, mode)
    )
    for one in ("mkdir", "unlink", "replace"):
        monkeypatch.setattr(Path, one, refuse)
    monkeypatch.setattr(os, "utime", refuse)
    notes = check(reader, video, [1, 4], [] if warm else [1, 4])
    assert notes == ({} if warm else {f"{NOT_KEPT}Read-only file system": 1})
    check(reader, video, [1, 5], [5] if warm else [1, 5])


def test_a_changed_file_is_another_video(tmp_path: Path, video: Path) -> None:
    reader = cached(Fake(), store(tmp_path))
    check(reader, video, [1, 4], [1, 4])
    video.write_bytes(b"Content")  # as long, and as old
    os.utime(video, (1e9, 1e9))
    check(reader, video, [1, 4], [1, 4])


def test_a_video_is_known_by_its_content(tmp_path: Path, video: Path) -> None:
    """Wherever it is; not by its ending, which says how it is opened, nor under other settings."""
    where = store(tmp_path)
    check(cached(Fake(), where), video, [1], [1])
    for name, decoded in {"moved/other.mp4": [], "video.avi": [1]}.items():
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(video.read_bytes())
        check(cached(Fake(), where), copy, [1], decoded)
    check(cached(Fake("pyav"), where), video, [1], [1])
    check(Cached(Fake(), half, "otherwise", "test", where), video, [1], [1])


def test_a_folder_of_frames(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"img_{number}.jpg").write_bytes(b"content")
    reader = cached(Fake(), store(tmp_path))
    assert reader.read(folder, lambda _: [1, 2]).decoded.all()
    assert not reader.read(folder, lambda _: [1, 2]).decoded.any()
    (folder / "img_2.jpg").write_bytes(b"others!")
    assert reader.read(folder, lambda _: [1, 2]).decoded.all()


@pytest.mark.parametrize("decoder", [Fake("published"), Fake(damaged=1)])
def test_frames_that_depend_on_the_draw_are_kept_draw_by_draw(
    decoder: Fake, tmp_path: Path, video: Path
) -> None:
    reader = cached(decoder, store(tmp_path))
    decoder.asked.clear()
    for _ in range(2):
        for draw in ([1, 4], [4, 9]):
            reader.read(video, lambda _, draw=draw: draw)
    assert decoder.asked == [[1, 4], [4, 9]]


def test_what_is_damaged_in_another_draw_only_is_read_whole(tmp_path: Path, video: Path) -> None:
    decoder = Fake()
    reader = cached(decoder, store(tmp_path))
    check(reader, video, [1, 4], [1, 4])
    decoder.damaged = 1
    check(reader, video, [4, 9], [4, 9])
    assert decoder.asked == [[1, 4], [9], [4, 9]]


def test_a_training_video_is_kept_whole_or_not_at_all(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcclip.data.cache.frames.BLOCK_BYTES", 5 * SIZE)
    decoder = Fake()
    check(cached(decoder, store(tmp_path), whole=TOTAL * SIZE - 1), video, [1, 4], [1, 4])
    assert decoder.asked == [[1, 4]]
    whole = cached(decoder, store(tmp_path), whole=TOTAL * SIZE)
    check(whole, video, [1, 4], [1, 4])
    assert decoder.asked[1:] == [[1, 4], [0, 2, 3, 5, 6], [7, 8, 9, 10, 11]]
    check(whole, video, list(range(TOTAL)), [])


def _read_all(folder: Path, video: Path, results: Any) -> None:
    decoder = Fake(seconds=0.05)
    reader = cached(decoder, Store(folder, 10**9))
    frames = [reader.read(video, lambda _, at=at: [at, at + 1]).frames for at in range(0, 10, 2)]
    results.put((decoder.asked, np.stack(frames)))


def test_two_processes_decode_a_frame_once(tmp_path: Path, video: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_read_all, args=(tmp_path / "frames", video, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    (one, frames), (other, same) = results.get(timeout=60), results.get(timeout=60)
    for process in processes:
        process.join()
    assert sorted(one + other) == [[at, at + 1] for at in range(0, 10, 2)]
    assert np.array_equal(frames, same)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Store]:
    """Room for three files of 100 bytes; a, b and c were used in this order."""
    where = Store(tmp_path / "frames", 330)
    for name in ("aa.test", "bb.test", "cc.test"):
        assert where.write(name, [bytes(100)]) is None
        time.sleep(0.01)
    yield where


def names(where: Store) -> list[str]:
    return sorted(one.path.name for one in where.files())


def test_what_was_used_longest_ago_goes_first(full: Store) -> None:
    opened = full.open("aa.test")
    assert opened is not None
    opened.close()
    full.write("dd.test", [bytes(100)])
    assert names(full) == ["aa.test", "dd.test"]  # down to nine tenths, the new one included
    assert (full.folder / "held").read_text() == "200"
    full.write("dd.test", [bytes(50)])
    assert (full.folder / "held").read_text() == "150"


def test_sizes_are_counted_again_where_they_are_not_known(full: Store) -> None:
    (full.folder / "held").write_text("")
    full.write("dd.test", [bytes(10)])
    assert (full.folder / "held").read_text() == "310"


def test_a_disk_that_is_nearly_full_is_left_alone(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcclip.data.cache.store.RESERVE", 2**60)
    assert full.write("dd.test", [bytes(10)]) == "the disk is nearly full"
    assert names(full) == ["aa.test", "bb.test", "cc.test"]


def test_what_a_killed_process_was_writing_is_not_used_and_goes(full: Store) -> None:
    left = full.folder / "dd" / "dd.test.0123"
    left.parent.mkdir()
    left.write_bytes(bytes(100))
    assert full.open("dd.test") is None
    assert names(full) == ["aa.test", "bb.test", "cc.test"]
    os.utime(left, (1e9, 1e9))
    full.write("ee.test", [bytes(100)])
    assert not left.exists()
