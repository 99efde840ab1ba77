"""What is odd in a list, and between a training list and the lists that are tested on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from experiments.datasets.check.class_names import common_names, shared_names
from experiments.datasets.check.videos import SameVideo, VideoList
from experiments.datasets.video_files import first_few

#: How many videos or classes a warning names, beside their count.
NAMED = 5


def list_warnings(one: VideoList, same: SameVideo) -> list[str]:
    """Videos with several labels or listed again; classes without a video, of one name, alone."""
    labels: dict[Hashable, dict[int, str]] = defaultdict(dict)
    first: dict[tuple[Hashable, int], str] = {}
    again: list[str] = []
    for item in one.items:
        file = same.file(one.dataset, item.path)
        labels[same.content(file)].setdefault(item.label, item.path)
        if (file, item.label) in first:
            again.append(_also(item.path, first[file, item.label]))
        first.setdefault((file, item.label), item.path)
    several = [
        f"{' = '.join(dict.fromkeys(known.values()))} ({' and '.join(map(str, sorted(known)))})"
        for known in labels.values()
        if len(known) > 1
    ]
    warnings = []
    if several:
        warnings.append(
            f"{one.title}: {_count(several, 'video')} with several labels, of which one is right "
            f"at most: {first_few(several, NAMED)}"
        )
    if again:
        warnings.append(
            f"{one.title}: {_count(again, 'line')} whose video is listed before: "
            f"{first_few(again, NAMED)}"
        )
    if (text := shared_names(one.classes)) is not None:
        warnings.append(f"{one.dataset}: {text}")
    if len(one.classes) == 1:
        warnings.append(f"{one.title}: one class alone, so the accuracy is 100 % in any case")
    return warnings + _empty_classes(one)


def _empty_classes(one: VideoList) -> list[str]:
    used = {item.label for item in one.items}
    empty = [f"{number} {own[0]!r}" for number, own in enumerate(one.classes) if number not in used]
    if not empty or not used:
        return []
    text = f"{one.title}: no video of {len(empty)} of {len(one.classes)} classes: "
    text += first_few(empty, NAMED)
    if 0 not in used:
        text += "; labels count from 0: are these counted from 1?"
    return [text]


class Leak(NamedTuple):
    """Videos of a test list that are in a training list, too: key -> how the lists name them.

    `files`: the same file is in both. `copies`: the training list has a byte copy of it.
    """

    files: dict[Hashable, str]
    copies: dict[Hashable, str]


def find_leak(train: VideoList, test: VideoList, same: SameVideo) -> Leak:
    """The videos of `test` that are in `train`."""
    trained, tested = same.videos(train), same.videos(test)
    both = {file for file in tested.files if file in trained.files}
    copied = {
        file: trained.contents[content]
        for file in tested.files
        if file not in both and (content := same.content(file)) in trained.contents
    }
    return Leak(
        {file: _also(tested.files[file], trained.files[file]) for file in both},
        {file: _also(tested.files[file], trained.files[of]) for file, of in copied.items()},
    )


def leak_warnings(
    train: VideoList, test: VideoList, same: SameVideo, *, kind: str = "training"
) -> list[str]:
    """What is to be said of videos that are trained and tested on.

    `kind`: what `train` is for; "validation" if the epoch is selected on it.
    """
    leak, videos = find_leak(train, test, same), len(same.videos(test).files)
    if leak.files and len(leak.files) == videos:
        return [
            f"{test.title}: every video is also in the {kind} list {train.title}: "
            + (
                "the accuracy says nothing of new videos"
                if kind == "training"
                else "the epoch is selected on the test itself"
            )
        ]
    kinds = {
        f"shares {len(leak.files)} of its {videos} videos with": leak.files,
        f"has byte copies for {len(leak.copies)} of its {videos} videos in": leak.copies,
    }
    return [
        f"{test.title} {text} the {kind} list {train.title}: "
        f"{first_few(sorted(found.values()), NAMED)}"
        for text, found in kinds.items()
        if found
    ]


def class_warnings(train: VideoList, test: VideoList) -> list[str]:
    """Novel classes of a data set that are trained on."""
    if train.dataset != test.dataset or train.classes == test.classes:
        return []
    if not (common := common_names(test.classes, train.classes)):
        return []
    return [
        f"{test.title}: {len(common)} of its {len(test.classes)} classes are trained on, too, in "
        f"{train.title}, so they are not novel: {first_few(common, NAMED)}"
    ]


def _also(path: str, other: str) -> str:
    return path if path == other else f"{path} (there: {other})"


def _count(texts: Sequence[str], noun: str) -> str:
    return f"{len(texts)} {noun}{'s' if len(texts) > 1 else ''}"
