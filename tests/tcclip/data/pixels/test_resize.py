from __future__ import annotations

import hashlib

import pytest
import torch

from tcclip.data.pixels.resize import Taps, Window, resample, resize, taps
from tcclip.data.seeding import seeded_rng

#: (old height, old width, new height, new width) -> digest of what OpenCV 5.0.0 made of `_image`.
BY_OPENCV = {
    (240, 320, 256, 341): "84f4c127d78d4f0d",
    (240, 427, 256, 455): "af1d0d911d2ebc78",
    (320, 240, 341, 256): "8e0f20542a5c4aa4",
    (360, 480, 256, 341): "216144ac9b941da1",
    (720, 1280, 256, 455): "416f65915e087bcf",
    (256, 340, 224, 298): "1110057471180c0f",
    (168, 192, 224, 224): "d34b9d97bb31a2ae",
    (256, 224, 224, 224): "cb446f7ca8e5d5b8",
    (192, 168, 224, 224): "c31b37cf4b05982d",
    (512, 640, 256, 320): "b5b189404a17ee7c",
    (32, 32, 36, 36): "54f3750c77a3eb0b",
    (23, 27, 32, 32): "061f62a9d16ea106",
    (1, 1, 5, 7): "c4080c31b3840483",
    (1, 9, 4, 3): "7d6a63f6e9216bdf",
    (7, 1, 3, 9): "0724b22b6b4b8a97",
    (2, 2, 4, 4): "ba64c3fa9725eb18",
    (131, 97, 64, 200): "5693f5e93262d2e6",
    (64, 200, 131, 97): "aaa927412e37aa39",
    (100, 100, 100, 57): "3eaceadadf198b57",
    (480, 852, 224, 398): "04dbe5c285e70b7b",
    (36, 48, 1, 1): "9b7e91a9e92dede4",
}


def _image(height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width)"""
    rng = seeded_rng("resize", height, width)
    return torch.from_numpy(rng.integers(0, 256, (1, height, width, 3), "u1")).permute(0, 3, 1, 2)


@pytest.mark.parametrize("sizes", BY_OPENCV)
def test_as_opencv_to_the_bit(sizes: tuple[int, int, int, int]) -> None:
    new = resize(_image(*sizes[:2]), *sizes[2:])
    pixels = new[0].permute(1, 2, 0).contiguous().numpy()
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == BY_OPENCV[sizes]


@pytest.mark.parametrize("sizes", [(240, 320, 256, 341), (64, 48, 40, 30), (30, 40, 30, 40)])
def test_a_window_is_a_part_of_the_whole(sizes: tuple[int, int, int, int]) -> None:
    video = torch.cat([_image(*sizes[:2])] * 3)
    whole = resize(video, *sizes[2:])
    for top, left, height, width in ((0, 0, 20, 20), (3, 7, 11, 5), (sizes[2] - 9, 1, 9, 1)):
        part = resize(video, *sizes[2:], Window(top, left, height, width))
        assert torch.equal(part, whole[..., top : top + height, left : left + width])


def test_clips_of_several_sizes_at_once() -> None:
    sizes = [(20, 30), (30, 20), (30, 30)]
    clips = [torch.cat([_image(*size), _image(*size).flip(-1)]) for size in sizes]
    batch = torch.full((3, 2, 3, 30, 30), 255, dtype=torch.uint8)
    for at, clip in enumerate(clips):
        batch[at, ..., : clip.shape[-2], : clip.shape[-1]] = clip
    rows = [taps(height, 24, columns=False) for height, _ in sizes]
    columns = [taps(width, 24, columns=True) for _, width in sizes]
    one = resample(batch, *(Taps(*map(torch.cat, zip(*x, strict=True))) for x in (rows, columns)))
    for clip, found in zip(clips, one, strict=True):
        assert torch.equal(resize(clip, 24, 24), found)
