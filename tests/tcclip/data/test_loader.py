from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item, read_list
from tcclip.data.cache.store import Store
from tcclip.data.clips import (
    TEST_CACHED,
    TEST_DECODED,
    TRAIN_CACHED,
    TRAIN_DECODED,
    EvalClips,
    TrainClips,
    TrainKey,
    training_budget,
    unique_names,
)
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo, read_video
from tcclip.data.loader import Batch, EvalBatch, EvalLoader, TrainLoader, global_order
from tcclip.data.loader_pool import LoaderPool

AUGMENT = AugmentConfig(resize=36, crop=32, hue=0.0)
#: Its process decodes for all tests of this file: each start takes half a second.
DECODER = Decoder(timeout=30)


def _train_clips(
    shapes: Path, items: list[Item] | None = None, seed: int = 0, later: bool = False
) -> TrainClips:
    items = items or read_list(shapes / "splits" / "train.txt")[:40]
    return TrainClips(
        items, (shapes / "videos").joinpath, num_frames=4, augment=AUGMENT, seed=seed,
        augment_later=later, decoder=DECODER,
    )  # fmt: skip


def _eval_clips(shapes: Path, items: list[Item], views: Views) -> EvalClips:
    locate = (shapes / "videos").joinpath
    return EvalClips(
        items, locate, num_frames=4, augment=AUGMENT, views=views, seed=0, decoder=DECODER
    )


def _loader(clips: TrainClips, workers: int = 0, rank: int = 0, world: int = 1) -> TrainLoader:
    return TrainLoader(
        clips, global_batch=16, chunk_size=4, pool=LoaderPool(workers), rank=rank, world=world
    )


def _equal(one: Batch, other: Batch) -> bool:
    same = [torch.equal(getattr(one, k), getattr(other, k)) for k in ("video", "labels", "indices")]
    return all(same) and one.replaced == other.replaced


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 5))
def test_the_order_is_a_permutation_of_seed_and_epoch(videos: int, seed: int, epoch: int) -> None:
    order = global_order(videos, seed, epoch)
    assert sorted(order) == list(range(videos))
    assert order == global_order(videos, seed, epoch)


@pytest.fixture(scope="module")
def straight(shapes: Path) -> list[Batch]:
    """Epoch 1, one rank, no workers: what every other way of loading must give."""
    return list(_loader(_train_clips(shapes)).epoch(1))


def test_an_epoch(straight: list[Batch], shapes: Path) -> None:
    items = read_list(shapes / "splits" / "train.txt")[:40]
    assert len(straight) == 8, "40 videos: two steps of four chunks, 8 videos dropped"
    order = global_order(40, 0, 1)
    for number, batch in enumerate(straight):
        assert batch.video.shape == (4, 4, 3, 32, 32)
        assert batch.video.dtype == torch.uint8
        assert batch.indices.tolist() == list(range(4 * number, 4 * number + 4))
        assert batch.labels.tolist() == [items[order[i]].label for i in batch.indices]
        assert batch.replaced == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_no_batch(straight: list[Batch], shapes: Path, workers: int) -> None:
    loader = _loader(_train_clips(shapes), workers)
    for epoch in (0, 1):
        batches = list(loader.epoch(epoch))
    assert all(map(_equal, batches, straight))
    assert len(batches) == len(straight)


@pytest.mark.parametrize("workers", [0, 1])
def test_augmented_in_batches_they_are_the_same(
    straight: list[Batch], shapes: Path, workers: int
) -> None:
    """What a GPU does; draws, flips, greys and crops of several sizes are in these batches."""
    batches = list(_loader(_train_clips(shapes, later=True), workers).epoch(1))
    assert len(batches) == len(straight)
    for batch, expected in zip(batches, straight, strict=True):
        assert batch.augmentation is not None
        assert batch.video.shape == (4, 4, 36, 36, 3)
        video = batch.augmentation.to(torch.device("cpu")).apply(batch.video)
        assert _equal(batch._replace(video=video), expected)


def test_dropping_a_loader_stops_its_workers(shapes: Path) -> None:
    loader = _loader(_train_clips(shapes), workers=2)
    next(loader.epoch(0))
    workers = list(loader.pool._loader._iterator._workers)  # type: ignore[attr-defined]
    gone = weakref.ref(loader.pool._loader)
    del loader
    assert gone() is None, "a reference cycle keeps it"
    assert not any(worker.is_alive() for worker in workers)


def test_two_ranks_load_what_one_does(straight: list[Batch], shapes: Path) -> None:
    ranks = [list(_loader(_train_clips(shapes), rank=r, world=2).epoch(1)) for r in (0, 1)]
    assert [len(one) for one in ranks] == [4, 4]
    # Step by step: the first rank's two chunks, then the second's.
    together = [ranks[r][2 * step + chunk] for step in (0, 1) for r in (0, 1) for chunk in (0, 1)]
    assert all(map(_equal, together, straight))


def test_an_epoch_can_start_in_the_middle(straight: list[Batch], shapes: Path) -> None:
    loader = _loader(_train_clips(shapes), workers=1)
    begun = loader.epoch(0)
    next(begun)
    assert all(map(_equal, loader.epoch(1, start_step=1), straight[4:]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_few_shot_list_is_decoded_once(
    straight: list[Batch], shapes: Path, tmp_path: Path, workers: int
) -> None:
    """All frames are kept in the first epoch; clips are those of the videos, bit for bit."""
    counts = Counter[str]()
    clips = replace(_train_clips(shapes), store=Store(tmp_path, 10**9))
    loader = TrainLoader(
        clips, global_batch=16, chunk_size=4, pool=LoaderPool(workers), counts=counts
    )
    list(loader.epoch(0))
    assert counts == {TRAIN_DECODED: 32}
    assert all(map(_equal, loader.epoch(1), straight))
    new = set(global_order(40, 0, 1)[:32]) - set(global_order(40, 0, 0)[:32])
    assert counts == {TRAIN_DECODED: 32 + len(new), TRAIN_CACHED: 32 - len(new)}
    assert (training_budget(None, 5), training_budget(Store(tmp_path, 100), 5)) == (0, 10)


@pytest.mark.parametrize("views", [Views(), Views(clips=2), Views(clips=2, crops=3)])
def test_views_from_the_cache_are_those_that_are_decoded(
    shapes: Path, tmp_path: Path, views: Views
) -> None:
    items = [*read_list(shapes / "splits" / "val.txt")[:3], Item("gone.mp4", 1)]
    clips = _eval_clips(shapes, items, views)
    alone, _ = _together([EvalLoader(clips, batch=2, pool=LoaderPool(0))])
    number = 3 * views.clips * views.crops
    for name in (TEST_DECODED, TEST_CACHED):
        counts = Counter[str]()
        kept = replace(clips, store=Store(tmp_path, 10**9))
        found, missing = _together([EvalLoader(kept, batch=2, pool=LoaderPool(0), counts=counts)])
        assert all(torch.equal(video, alone[index]) for index, video in found.items())
        assert (counts, missing) == ({name: number}, {3: "no such file"})


def test_epochs_and_seeds_differ(shapes: Path) -> None:
    clips = _train_clips(shapes)
    first, second = (clips[TrainKey(epoch, 0, 3)].video for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, _train_clips(shapes, seed=1)[TrainKey(0, 0, 3)].video)


def test_a_video_listed_twice_is_drawn_twice(shapes: Path) -> None:
    items = [Item("a.mp4", 0), Item("b.mp4", 0), Item("a.mp4", 1), Item("a.mp4", 0)]
    assert unique_names(items) == ["a.mp4", "b.mp4", "a.mp4#1", "a.mp4#2"]
    real = read_list(shapes / "splits" / "train.txt")[:1] * 2
    clips = _train_clips(shapes, real)
    assert not torch.equal(clips[TrainKey(0, 0, 0)].video, clips[TrainKey(0, 1, 1)].video)


def test_an_unreadable_training_video_is_replaced_and_counted_and_named_once(
    shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = [*read_list(shapes / "splits" / "train.txt")[:15], Item("gone.mp4", 5)]
    loader = _loader(_train_clips(shapes, items))
    first, second = list(loader.epoch(0)), list(loader.epoch(1))
    for epoch in (first, second):
        replaced = [one for batch in epoch for one in batch.replaced]
        assert replaced == [("gone.mp4", "no such file")]
    assert caplog.messages == ["another training video takes the place of gone.mp4: no such file"]
    in_workers = _loader(_train_clips(shapes, items), workers=2)
    assert all(map(_equal, first, in_workers.epoch(0)))


def test_replacements_carry_their_own_label(shapes: Path) -> None:
    items = [Item("gone.mp4", 5), read_list(shapes / "splits" / "train.txt")[0]]
    clip = _train_clips(shapes, items)[TrainKey(0, 0, 0)]
    assert (clip.label, clip.replaced) == (items[1].label, ("gone.mp4", "no such file"))


def test_a_list_of_missing_videos_is_an_error(shapes: Path) -> None:
    clips = _train_clips(shapes, [Item("gone.mp4", 0), Item("lost.mp4", 0)])
    with pytest.raises(UnreadableVideo, match="20 videos in a row could not be read"):
        clips[TrainKey(0, 0, 0)]


def _together(loaders: list[EvalLoader]) -> tuple[dict[int, torch.Tensor], dict[int, str]]:
    batches: list[EvalBatch] = [batch for loader in loaders for batch in loader]
    videos = [(int(i), v) for b in batches for i, v in zip(b.indices, b.video, strict=True)]
    assert len(dict(videos)) == len(videos), "a video came twice"
    return dict(videos), {i: why for b in batches for i, why in b.unreadable.items()}


@pytest.mark.parametrize(("workers", "world"), [(1, 1), (2, 2), (0, 3)])
def test_evaluation_counts_every_video_once(shapes: Path, workers: int, world: int) -> None:
    items = read_list(shapes / "splits" / "val.txt")[:9]
    items.insert(4, Item("gone.mp4", 1))
    clips = _eval_clips(shapes, items, Views(clips=2, crops=3))
    alone, missing = _together([EvalLoader(clips, batch=4, pool=LoaderPool(0))])
    assert missing == {4: "no such file"}
    assert sorted(alone) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert alone[0].shape == (6, 4, 3, 32, 32)
    shared = [
        EvalLoader(clips, batch=3, pool=LoaderPool(workers), rank=r, world=world)
        for r in range(world)
    ]
    videos, unreadable = _together(shared)
    assert unreadable == missing
    assert videos.keys() == alone.keys()
    assert all(torch.equal(video, alone[index]) for index, video in videos.items())


def test_a_batch_without_a_readable_video(shapes: Path) -> None:
    clips = _eval_clips(shapes, [Item("gone.mp4", 0)], Views(clips=2, crops=3))
    (batch,) = EvalLoader(clips, batch=4, pool=LoaderPool(0))
    assert len(batch.indices) == 0
    assert batch.unreadable == {0: "no such file"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_many_workers_on_hmdb51_do_not_deadlock(real_clips: Path) -> None:
    """After decord was used in this very process, which hangs workers that inherit it."""
    names = [path.name for path in sorted(real_clips.glob("hmdb51_*"))]
    read_video(real_clips / names[0], lambda _: [0, 5], "published")
    items = [Item(name, number) for number, name in enumerate(names * 32)]
    for reader in ("auto", "published"):
        augment = AUGMENT.model_copy(update={"reader": reader})
        clips = EvalClips(
            items, real_clips.joinpath, num_frames=16, augment=augment, views=Views(), seed=0,
            decoder=Decoder(augment.reader),
        )  # fmt: skip
        videos, unreadable = _together([EvalLoader(clips, batch=4, pool=LoaderPool(12))])
        assert len(videos) == len(items)
        assert unreadable == {}
