from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tcclip.config import Views
from tcclip.data.sampling import segment_indices, train_indices, view_indices
from tcclip.data.seeding import seeded_rng

FRAMES = st.integers(1, 2000)
CLIP = st.integers(1, 32)


@given(FRAMES, CLIP)
def test_segment_indices_are_the_middles(total: int, frames: int) -> None:
    indices = segment_indices(total, frames)
    interval = total / frames
    assert indices.tolist() == [int(i * interval + interval / 2) for i in range(frames)]
    assert indices.min() >= 0
    assert indices.max() < total


@given(FRAMES, CLIP, st.integers(0, 9))
def test_train_takes_one_of_each_segment(total: int, frames: int, seed: int) -> None:
    indices = train_indices(total, frames, seeded_rng(seed))
    interval = total // frames
    if interval:
        assert (indices // interval == np.arange(frames)).all()
    else:
        assert indices.tolist() == [round(i * (total / frames)) % total for i in range(frames)]
    assert (indices >= 0).all()
    assert (indices < total).all()
    assert (train_indices(total, frames, seeded_rng(seed)) == indices).all()


def test_train_reaches_every_frame_of_the_segments() -> None:
    rng = seeded_rng("all")
    seen = {int(i) for _ in range(500) for i in train_indices(35, 8, rng)}
    # The remainder past 8 segments of 35 // 8 frames is never looked at: as published.
    assert seen == set(range(32))


@given(FRAMES, CLIP, st.integers(1, 4))
def test_views(total: int, frames: int, clips: int) -> None:
    views = Views(clips=clips)
    one = view_indices(total, frames, views, 0, "a.mp4")
    assert one.shape == (clips, frames)
    assert (view_indices(total, frames, views, 0, "a.mp4") == one).all()
    if clips == 1:
        assert (one[0] == segment_indices(total, frames)).all()


def test_published_views_differ_by_seed_video_and_view_but_not_by_rerun() -> None:
    views = Views(clips=2)
    first = view_indices(300, 16, views, 0, "a.mp4")
    assert (first[0] != first[1]).any()
    assert (view_indices(300, 16, views, 1, "a.mp4") != first).any()
    assert (view_indices(300, 16, views, 0, "b.mp4") != first).any()


def test_uniform_views_draw_nothing_and_interleave() -> None:
    views = Views(clips=2, sampling="uniform")
    assert view_indices(32, 4, views, 0, "a").tolist() == [[2, 10, 18, 26], [6, 14, 22, 30]]
    assert view_indices(32, 4, views, 9, "b").tolist() == [[2, 10, 18, 26], [6, 14, 22, 30]]
