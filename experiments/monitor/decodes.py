"""How many clips and views a grid decodes: counted from its lists, without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from experiments.grid.spec import ListSpec, RunSpec
from experiments.monitor.cost import repeated_tests, validations
from experiments.monitor.rates import clip_seconds

#: Bytes of all frames of a video at short side 256, about: what decides whether a list is kept.
VIDEO_BYTES = {"hmdb51": 25e6, "ucf101": 49e6, "ssv2": 16e6, "k400": 105e6, "moving_shapes": 1e5}
OTHER_VIDEO_BYTES = 50e6
#: The paths of a list's videos; None if the list is not on this machine.
ReadPaths = Callable[[ListSpec], Sequence[str] | None]


@dataclass(frozen=True)
class Decodes:
    """Views of test videos and training clips that a run reads, and those it has to decode.

    `*_decoded`: the others were decoded before, by itself or a run before it, and are kept.
    `view_bytes`: what the views it decodes take in the cache. `list_bytes`: what the videos of its
    training list take, if that is too much to be kept, else 0. `core_hours`: of a core, decoding.
    """

    test_views: int
    test_views_decoded: int
    train_clips: int
    train_clips_decoded: int
    view_bytes: int
    list_bytes: int
    core_hours: float


class _Views(NamedTuple):
    """Views of a video, and the seconds that decoding them takes."""

    number: int
    seconds: float


def count_decodes(
    specs: Sequence[RunSpec], read_paths: ReadPaths, limit: int, share: float
) -> dict[str, Decodes]:
    """Run id -> its decodes, of runs that are computed one after another from an empty cache.

    `limit`: bytes of the cache; `share`: that of it for each training list. Without a limit all is
    decoded that is read. Runs with a list that is not on this machine are left out. Frames that
    two views have in common are counted for both.
    """
    seen: set[object] = set()
    found = {}
    for spec in specs:
        lists = {id(one): read_paths(one) for one, read in spec.lists if read}
        if None not in lists.values():
            paths = {at: listed for at, listed in lists.items() if listed is not None}
            found[spec.run_id] = _of_run(spec, paths, seen, limit, share)
    return found


def _of_run(
    spec: RunSpec,
    paths: Mapping[int, Sequence[str]],
    seen: set[object],
    limit: int,
    share: float,
) -> Decodes:
    again = repeated_tests(spec)
    final = [one for one in spec.suites if spec.ensemble_weight is not None or one not in again]
    number = validations(spec)
    tested = _videos(spec, spec.validation, paths) if number else {}
    last = _videos(spec, final, paths)
    read = [*tested.values()] * number + [*last.values()]
    new = [one for key, one in (tested | last).items() if key not in seen]
    clips = videos = too_large = 0
    if spec.train.epochs:
        listed = paths[id(spec.train_list)]
        batch = spec.train.global_batch
        clips = videos = spec.epochs_to_train * (len(listed) // batch) * batch
        size = int(VIDEO_BYTES.get(spec.train_list.dataset, OTHER_VIDEO_BYTES) * len(listed))
        if size > limit * share:
            too_large = size
        else:
            own = {(spec.train_list.dataset, path, spec.augment.resize) for path in listed}
            videos = min(len(own - seen), clips)
            seen |= own
    if limit:
        seen |= tested.keys() | last.keys()
    size = 3 * spec.augment.crop**2 * spec.model.num_frames
    views, decoded = (sum(one.number for one in some) for some in (read, new if limit else read))
    seconds = sum(one.seconds for one in (new if limit else read))
    seconds += videos * clip_seconds(spec.train_list.dataset, spec.train_list.pack is not None)
    kept = sum(one.number for one in new) * size
    return Decodes(views, decoded, clips, videos, kept, too_large, seconds / 3600)


def _videos(
    spec: RunSpec, lists: Sequence[ListSpec], paths: Mapping[int, Sequence[str]]
) -> dict[object, _Views]:
    """What names the views of a video -> these; a video in several lists counts once."""
    augment, found = spec.augment, dict[object, _Views]()
    for one in lists:
        views = one.views
        drawn = views.clips > 1 and views.sampling == "published"
        each = clip_seconds(one.dataset, one.pack is not None)
        settings = (augment.resize, augment.crop, augment.reader, spec.model.num_frames)
        for path in paths[id(one)]:
            key = (one.dataset, path, views, spec.key.seed if drawn else None, settings)
            found[key] = _Views(views.clips * views.crops, views.clips * each)
    return found


def decode_lines(decodes: Sequence[Decodes], limit: int) -> list[str]:
    """What a dry run says of them."""
    if not decodes:
        return []
    views, clips = (
        sum(getattr(one, name) for one in decodes) for name in ("test_views", "train_clips")
    )
    if not limit:
        text = f"{views} test views and {clips} training clips, none of which is kept"
        return [f"decoding, counted from the lists: {text} (--cache-size 0)"]
    new_views = sum(one.test_views_decoded for one in decodes)
    new_clips = sum(one.train_clips_decoded for one in decodes)
    times = (views + clips) / max(1, new_views + new_clips)
    lines = [
        f"decoding, counted from the lists: {new_views} of {views} test views and {new_clips} of "
        f"{clips} training clips; the cache gives the others ({times:.3g} times fewer)"
    ]
    size = sum(one.view_bytes for one in decodes)
    if size > limit > 0:
        lines.append(
            f"  these test views take {size / 1e9:.0f} GB, and the cache may hold "
            f"{limit / 1e9:.0f} GB: give it more (--cache-size), or they are decoded again"
        )
    size = max(one.list_bytes for one in decodes)
    if size:
        lines.append(
            f"  the videos of a training list take up to {size / 1e9:.0f} GB, more than is kept of "
            f"one in a cache of {limit / 1e9:.0f} GB: give it more (--cache-size), or their clips "
            "are decoded in each epoch"
        )
    return lines
