"""Skipping frames gives the pixels that decoding every frame does, or is not done."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tcclip.data.decode import pyav_reader
from tcclip.data.decode.key_frames import Groups, claimed_key_frames, find_groups
from tcclip.data.decode.pyav_reader import read, read_sequentially
from tcclip.data.decode.video_file import DecodingError, open_video
from tcclip.data.sampling import segment_indices, train_indices
from tcclip.data.seeding import seeded_rng
from tests.made_videos import call_every_sample_a_key_frame, pictures, write_cut, write_video

INTERLACED = {"flags": "+ildct+ilme", "g": "4"}
OPEN = {"g": "4", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
REFRESHED = {"x264-params": "intra-refresh=1:keyint=8"}


def _groups(path: Path) -> Groups:
    with open_video(path) as (container, stream):
        return find_groups(container, stream)


def _same_for_every_draw(path: Path) -> None:
    frames, total, _ = read_sequentially(path, range)
    for number in (2, 8, 16, 32):
        draws = [lambda total, n=number: segment_indices(total, n)] + [
            lambda total, n=number, s=seed: train_indices(total, n, seeded_rng("a", s))
            for seed in range(4)
        ]
        for draw in draws:
            ours = read(path, draw)
            assert ours[0].tobytes() == frames[draw(total)].tobytes()
            assert ours[1] == total


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"g": "1"}, 40), ({"g": "4", "scenecut": "0"}, 10), ({"g": "4", "bf": "0"}, 10),
        ({"g": "5", "bf": "4", "b-pyramid": "normal"}, 8), ({"g": "4", "slices": "4"}, 10),
        ({"g": "5", "tune": "zerolatency"}, 8), ({"g": "4", "pix_fmt": "yuv444p"}, 10),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lying", [False, True])
def test_skipping_gives_the_same_pixels(
    tmp_path: Path,
    options: dict[str, str],
    starts: int,
    lying: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_video(tmp_path / "a.mp4", **options)
    if lying and starts < 40:
        call_every_sample_a_key_frame(path)
        with open_video(path) as (_, stream):
            assert claimed_key_frames(stream) == 40
    assert len(_groups(path).starts) == starts
    _same_for_every_draw(path)
    monkeypatch.delattr(pyav_reader, "read_sequentially")
    assert read(path, lambda total: [17])[1] == 40


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("mjpeg", "yuvj422p"), ("prores_ks", "yuv422p10le")]
)
def test_codecs_of_key_frames_only(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / "a.mov", codec, pix_fmt=pix_fmt)
    assert len(_groups(path).starts) == 40
    _same_for_every_draw(path)


@pytest.mark.parametrize(
    ("options", "doubt"),
    [
        (INTERLACED, "interlaced"), (OPEN, ""), (REFRESHED, ""),
        ({"g": "4", "codec": "libx265", "x265-params": "keyint=4:log-level=none"}, "codec hevc"),
        ({"g": "4", "codec": "mpeg4"}, "codec mpeg4"),
    ],
)  # fmt: skip
def test_doubtful_streams(tmp_path: Path, options: dict[str, str], doubt: str) -> None:
    path = write_video(tmp_path / "a.mp4", **options)
    if doubt:
        with pytest.raises(DecodingError, match=doubt):
            _groups(path)
    else:
        assert len(_groups(path).starts) == 1
    call_every_sample_a_key_frame(path)
    _same_for_every_draw(path)


@pytest.mark.parametrize("hidden", [3, 30])
def test_hidden_frames_are_no_part_of_the_video(tmp_path: Path, hidden: int) -> None:
    write_cut(tmp_path / "a.mp4", hidden)
    with pytest.raises(DecodingError, match="not shown"):
        _groups(tmp_path / "a.mp4")
    assert read(tmp_path / "a.mp4", range)[1] == 40 - hidden


def test_damage_where_a_clip_is_read(tmp_path: Path) -> None:
    """Its frame is lost, so the others' numbers change: every frame is decoded."""
    path = write_video(tmp_path / "a.mp4", g="1")
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[places[20] + 6 : places[20] + 12] = b"damage"
    path.write_bytes(content)
    assert read(path, lambda total: range(0, total, 2))[1:] == (39, 1)


def test_parameter_sets_on_the_way(tmp_path: Path) -> None:
    """A group that brings its own parameters must not be skipped."""
    path = write_video(tmp_path / "a.mp4", g="4", **{"x264-params": "repeat-headers=1"})
    _same_for_every_draw(path)
    assert len(_groups(path).starts) >= 10
    with open_video(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.is_keyframe]
        place = packets[5].pos
    content = bytearray(path.read_bytes())
    # Another byte in the first parameter set (its length, 4 bytes; its kind) of one group.
    assert content[place + 4] & 31 in (7, 8)
    content[place + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(DecodingError, match="parameters that change on the way"):
        _groups(path)


def test_frames_of_no_reordering_file_start_late(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", times=[500 + 3 * n for n in range(40)], g="4")
    _same_for_every_draw(path)


def test_long_groups_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", shown=pictures(60), g="30")
    monkeypatch.delattr(pyav_reader, "find_groups")
    assert read(path, range)[1] == 60
