"""A folder of images is a video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcclip.data.decode.decoder import Decoder
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
        image.save(tmp_path / "a" / f"img_{number}.{'jpg' if mode == 'CMYK' else 'png'}")
    clip = read_video(tmp_path / "a", range)
    assert clip.frames.shape == (5, 24, 32, 3)


@pytest.mark.parametrize("kind", ["empty", "two kinds", "broken"])
def test_what_cannot_be_read_says_why(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    if kind == "two kinds":
        frames(folder, "left-", 2)
        frames(folder, "right-", 2)
    if kind == "broken":
        frames(folder, "img_", 3)
        (folder / "img_2.png").write_bytes((folder / "img_2.png").read_bytes()[:40])
    causes = {
        "empty": "no image with a number",
        "two kinds": "left-1, right-1",
        "broken": "img_2.png cannot",
    }
    with pytest.raises(UnreadableVideo, match=causes[kind]):
        read_video(folder, range)


def test_a_decoding_process_reads_them_too(tmp_path: Path) -> None:
    frames(tmp_path / "a", "img_", 3)
    decoder = Decoder()
    clip = decoder.read(tmp_path / "a", lambda total: [2, 0])
    decoder.close()
    assert clip.frames[:, 0, 0, 0].tolist() == [20, 0]
