"""A packed video gives its frames, or says what is wrong with it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.images.packed_video import COMMENT, ENDING, NAME, kept_frames, read_packed
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.decode.video_file import DecodingError


def packed(path: Path, total: int = 12, most: int | None = None, height: int = 24) -> Path:
    """Frame n has grey level 10 n."""
    with zipfile.ZipFile(path, "w") as file:
        for index in kept_frames(total, most).tolist():
            data = io.BytesIO()
            picture = np.full((height, 32, 3), 10 * index, np.uint8)
            Image.fromarray(picture).save(data, "JPEG", quality=95)
            file.writestr(zipfile.ZipInfo(NAME.format(index)), data.getvalue())
        file.comment = COMMENT.format(total).encode()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return packed(tmp_path / f"a.mp4{ENDING}")


def levels(path: Path, *indices: int) -> list[int]:
    clip = Decoder().read(path, lambda total: list(indices))
    assert clip.reader == "pack" and clip.frames.dtype == np.uint8
    return [round(float(frame.mean())) for frame in clip.frames]


def test_frames_in_any_order_and_twice(video: Path) -> None:
    assert levels(video, 11, 0, 3, 3) == [110, 0, 30, 30]
    frames, total = read_packed(video, range)
    assert (frames.shape, total) == ((12, 24, 32, 3), 12)
    with pytest.raises(ValueError, match=r"\[12\] are not in a video of 12 frames"):
        read_packed(video, lambda total: [12])


@pytest.mark.parametrize(("total", "most"), [(24, 4), (23, 4), (16, 16), (5, 16), (21, 20)])
def test_the_kept_frame_of_an_indexs_part_stands_for_it(
    total: int, most: int, tmp_path: Path
) -> None:
    kept = kept_frames(total, most).tolist()
    assert len(kept) == min(most, total) and sorted(set(kept)) == kept
    shown = levels(packed(tmp_path / f"b{ENDING}", total, most), *range(total))
    parts = [kept[index * len(kept) // total] for index in range(total)]
    assert shown == [10 * frame for frame in parts]
    assert max(abs(part - index) for index, part in enumerate(parts)) <= total / (2 * most) + 1


def test_no_cut_file_and_no_changed_byte_is_read(video: Path) -> None:
    """Of a header before a frame nothing is read: a changed byte there changes nothing."""
    data, right = video.read_bytes(), read_packed(video, range)[0]
    for size in range(0, len(data), 37):
        video.write_bytes(data[:size])
        with pytest.raises(DecodingError, match=r"cut short|no packed video"):
            read_packed(video, range)
    refused = 0
    for place in range(0, len(data), 11):
        video.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            frames, total = read_packed(video, range)
        except DecodingError:
            refused += 1
        else:
            assert total == 12 and np.array_equal(frames, right)
    assert refused > len(data) / 11 / 3


def test_other_zips_are_no_packed_videos(video: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(video, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("000000.jpg", b"a" * 1000)
        file.comment = COMMENT.format(1).encode()
    with pytest.raises(UnreadableVideo, match="an entry of its directory is not one"):
        levels(video, 0)
    with zipfile.ZipFile(video, "w") as file:
        file.writestr(zipfile.ZipInfo(NAME.format(0)), b"no picture")
        file.comment = COMMENT.format(1).encode()
    with pytest.raises(UnreadableVideo, match=r"000000.jpg cannot be decoded"):
        levels(video, 0)
    with pytest.raises(UnreadableVideo, match="cannot be read: No such file"):
        levels(tmp_path / f"gone{ENDING}", 0)
