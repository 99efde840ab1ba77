"""A folder of images is a video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcclip.data.decode.reader import UnreadableVideo, read_video


def frames(folder: Path, name: str, count: int, start: int = 1, ending: str = "png") -> None:
    """Frame n, from 0, has grey level 10 n."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = Image.fromarray(np.full((24, 32, 3), 10 * number, np.uint8))
        image.save(folder / f"{name}{number + start}.{ending}")


def levels(folder: Path, *indices: int) -> list[int]:
    clip = read_video(folder, lambda total: list(indices))
    assert clip.reader == "frames" and clip.frames.dtype == np.uint8
    return [int(frame[0, 0, 0]) for frame in clip.frames]


def test_frames_come_by_their_number(tmp_path: Path) -> None:
    """Not in the alphabet's order, where 10 comes before 2."""
    frames(tmp_path / "a", "img_", 12)
    assert levels(tmp_path / "a", 11, 0, 1, 9, 9) == [110, 0, 10, 90, 90]
    assert read_video(tmp_path / "a", lambda total: [total - 1]).total_frames == 12


@pytest.mark.parametrize(("name", "start"), [("img_000", 0), ("frame", 5), ("", 1), ("x-y ", 1)])
def test_names_of_frames(name: str, start: int, tmp_path: Path) -> None:
    frames(tmp_path / "a", name, 9, start)
    (tmp_path / "a" / "notes.txt").write_text("3")
    assert levels(tmp_path / "a", 0, 8) == [0, 80]


def test_optical_flow_beside_the_frames_is_not_read(tmp_path: Path) -> None:
    frames(tmp_path / "a", "flow_x_", 4)
    frames(tmp_path / "a", "img_", 3, ending="jpg")
    assert read_video(tmp_path / "a", lambda total: [0]).total_frames == 3


def test_the_first_frame_decides_the_size_and_every_mode_becomes_rgb(tmp_path: Path) -> None:
    frames(tmp_path / "a", "img_", 1)
    for number, mode in enumerate(("L", "P", "RGBA", "CMYK"), start=2):
        image = Image.new("RGB", (64, 48), (0, 0, 200)).convert(mode)
        image.save(tmp_path / "a" / f"img_{number}.png", "JPEG" if mode == "CMYK" else "PNG")
    clip = read_video(tmp_path / "a", range)
    assert clip.frames.shape == (5, 24, 32, 3)


def test_grey_levels_of_16_bits_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, level in enumerate((0, 128, 30000, 65535)):
        Image.fromarray(np.full((24, 32), level, np.uint16)).save(tmp_path / "a" / f"{number}.png")
    assert levels(tmp_path / "a", 0, 1, 2, 3) == [0, 0, 117, 255]


def test_endings_of_one_kind(tmp_path: Path) -> None:
    frames(tmp_path / "a", "", 1, 1, "jpg")
    frames(tmp_path / "a", "", 1, 2, "JPG")
    frames(tmp_path / "a", "", 1, 3, "jpeg")
    frames(tmp_path / "a", "mask", 3)
    assert read_video(tmp_path / "a", lambda total: [0]).total_frames == 3


@pytest.mark.parametrize("kind", ["empty", "two kinds", "broken", "masks", "twice"])
def test_what_cannot_be_read_says_why(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    if kind == "two kinds":
        frames(folder, "left-", 2)
        frames(folder, "right-", 2)
    if kind == "broken":
        frames(folder, "img_", 3)
        (folder / "img_2.png").write_bytes((folder / "img_2.png").read_bytes()[:40])
    if kind == "masks":
        frames(folder, "0000", 3, ending="jpg")
        frames(folder, "0000", 3)
    if kind == "twice":
        frames(folder, "img_", 3)
        frames(folder, "img_00", 1)
    causes = {
        "empty": "no image with a number",
        "two kinds": "left-1, right-1",
        "broken": "img_2.png cannot",
        "masks": "end in .jpg and in .png: keep one kind",
        "twice": "img_001.png and img_1.png have one number",
    }
    with pytest.raises(UnreadableVideo, match=causes[kind]):
        read_video(folder, range)
