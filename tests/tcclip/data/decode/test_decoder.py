"""Decoders that hang or die. Both are made by stopping or killing the decoding process."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tcclip.data.annotations import read_list
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo, read_video


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    one = Decoder(timeout=2.0)
    yield one
    one.close()


@pytest.fixture
def video(shapes: Path) -> Path:
    return shapes / "videos" / read_list(shapes / "splits" / "val.txt")[0].path


def _signalling(decoder: Decoder, what: signal.Signals, times: int) -> Callable[[int], list[int]]:
    """Chooses frames, but does `what` to the process that is reading, the first `times` times."""
    left = [times]

    def choose(total: int) -> list[int]:
        if left[0]:
            left[0] -= 1
            os.kill(_pid(decoder), what)
        return [0, total - 1]

    return choose


def _pid(decoder: Decoder) -> int:
    assert decoder._process is not None
    return decoder._process._popen.pid


def test_the_same_frames_as_in_this_process(decoder: Decoder, video: Path) -> None:
    ours = read_video(video, range)
    theirs = decoder.read(video, range)
    assert (theirs.frames == ours.frames).all()
    assert (theirs.total_frames, theirs.reader) == (ours.total_frames, ours.reader)


def test_one_process_reads_many(decoder: Decoder, video: Path) -> None:
    first = decoder.read(video, lambda _: [0]).frames
    pid = _pid(decoder)
    # Frames are the caller's own: the next reading does not write over them.
    before = first.copy()
    decoder.read(video, lambda total: [total - 1])
    assert (first == before).all()
    assert _pid(decoder) == pid


@pytest.mark.parametrize("what", [signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV])
def test_a_video_that_hangs_or_crashes_is_tried_once_more(
    decoder: Decoder, video: Path, what: signal.Signals
) -> None:
    clip = decoder.read(video, _signalling(decoder, what, 1))
    assert (clip.frames[0] == read_video(video, lambda _: [0]).frames[0]).all()


def test_a_video_that_always_hangs_is_named_and_not_tried_again(
    decoder: Decoder, video: Path
) -> None:
    with pytest.raises(UnreadableVideo) as error:
        decoder.read(video, _signalling(decoder, signal.SIGSTOP, 9))
    assert "pyav: no answer within 2 s, stopped" in error.value.cause
    assert error.value.cause.count("no answer") == 1, "said once"
    process = decoder._process
    with pytest.raises(UnreadableVideo):
        decoder.read(video, lambda _: [0])
    assert decoder._process is process, "no process was asked again"


def test_a_decoder_that_is_always_killed_says_nothing_of_the_video(
    decoder: Decoder, video: Path
) -> None:
    with pytest.raises(MemoryError, match="died of SIGKILL, as the system ends what takes too"):
        decoder.read(video, _signalling(decoder, signal.SIGKILL, 9))
    assert decoder.read(video, lambda _: [0]).total_frames > 0


def test_a_process_that_died_between_videos_is_replaced(decoder: Decoder, video: Path) -> None:
    decoder.read(video, lambda _: [0])
    os.kill(_pid(decoder), signal.SIGKILL)
    assert decoder.read(video, lambda _: [0]).total_frames > 0


def test_reading_continues_after_an_error_of_the_caller(decoder: Decoder, video: Path) -> None:
    def broken(total: int) -> list[int]:
        raise ZeroDivisionError(str(total))

    with pytest.raises(ZeroDivisionError):
        decoder.read(video, broken)
    with pytest.raises(RuntimeError, match="are not in a video of"):
        decoder.read(video, lambda total: [total])
    assert decoder.read(video, lambda _: [0]).frames.shape[0] == 1


def test_clips_of_changing_size(decoder: Decoder, video: Path) -> None:
    for count in (1, 30, 2, 300):
        indices = [n % 16 for n in range(count)]
        clip = decoder.read(video, lambda _, indices=indices: indices)
        assert clip.frames.shape[0] == count
        assert (clip.frames[0] == clip.frames[16 if count > 16 else 0]).all()


def test_a_copy_starts_its_own_process(decoder: Decoder, video: Path) -> None:
    decoder.read(video, lambda _: [0])
    copy = pickle.loads(pickle.dumps(decoder))
    assert copy._process is None
    assert (copy.mode, copy.timeout) == (decoder.mode, decoder.timeout)
    child = os.fork()
    if child == 0:
        # In a fork the parent's process must not be spoken to, nor stopped on the way out.
        fine = np.array_equal(
            decoder.read(video, lambda _: [0]).frames, read_video(video, lambda _: [0]).frames
        )
        decoder.close()
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decoder.read(video, lambda _: [0]).total_frames > 0


def test_without_memory_files(monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    decoder = Decoder(timeout=10)
    assert decoder.read(video, lambda _: [0]).frames.shape[0] == 1
    decoder.close()
