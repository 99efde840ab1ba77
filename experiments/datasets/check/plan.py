"""What is wrong or odd in the lists of runs that are planned, or of one that begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.datasets.check.class_names import equal_prompts
from experiments.datasets.check.lists import leak_warnings, list_warnings
from experiments.datasets.check.videos import SameVideo, VideoList
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import FoundVideos
from experiments.errors import MissingData
from experiments.grid.spec import ListSpec, RunSpec
from protocols.datasets import DATASETS
from tcclip.data.annotations import AnnotationError, read_class_names, read_list


class ListFindings(NamedTuple):
    """What makes numbers of planned runs meaningless or their lists unusable; and what is odd."""

    problems: list[str]
    warnings: list[str]


#: How many videos a message names, beside their count.
NAMED = 5


def check_lists(
    specs: Sequence[RunSpec], data_paths: DataPaths, max_unreadable: float = 0.0
) -> ListFindings:
    """What is wrong or odd in the lists of `specs`; those not on this machine are left out.

    The videos of own data sets are looked for, too; a share of `max_unreadable` may be missing.
    """
    # The lists that a run reads, the training list first -> whether it has one.
    runs: dict[tuple[ListSpec, ...], bool] = {}
    for spec in specs:
        runs[tuple(one for one, items in spec.lists if items)] = spec.train.epochs > 0
    problems: list[str] = []
    warnings: list[str] = []
    read: dict[ListSpec, VideoList] = {}
    for one in dict.fromkeys(one for used in runs for one in used):
        try:
            if (known := _read(one, data_paths)) is not None:
                read[one] = known
        except AnnotationError as error:
            problems.append(str(error))
    for names, known in {tuple(known.classes): known for known in read.values()}.items():
        if (text := equal_prompts(names)) is not None:
            # Published names are used as published.
            kind = warnings if known.dataset in DATASETS else problems
            kind.append(f"{known.dataset}: {text}")
    lists = list(read.values())
    found = _find_own(lists, data_paths)
    for known in lists:
        if known.dataset in found and found[known.dataset].folder.is_dir():
            lost = missing_videos(known, found[known.dataset].missing, max_unreadable)
            problems += [] if lost is None else [lost]
    same = same_video(lists, found)
    for used, trained in runs.items():
        tests = [read[one] for one in used[1 if trained else 0 :] if one in read]
        warnings += run_warnings(read.get(used[0]) if trained else None, tests, same)
    return ListFindings(list(dict.fromkeys(problems)), list(dict.fromkeys(warnings)))


def missing_videos(one: VideoList, missing: Mapping[str, str], allowed: float) -> str | None:
    """The message for a list of which a larger share than `allowed` is not there.

    `missing`: entry -> a remark that helps to find it, or "".
    """
    lost = [item.path for item in one.items if item.path in missing]
    if len(lost) <= allowed * len(one.items):
        return None
    named = [f"{path} ({missing[path]})" if missing[path] else path for path in lost[:NAMED]]
    return (
        f"{one.title}: {len(lost)} of {len(one.items)} listed videos are not there, allowed are "
        f"{allowed:.2%}: {', '.join(named)}{', ...' if len(lost) > NAMED else ''}. Add them, or "
        "allow more with --max-unreadable"
    )


def run_warnings(train: VideoList | None, tests: Sequence[VideoList], same: SameVideo) -> list[str]:
    """What is odd in the lists of a run, each text once. `train`: None if nothing is trained."""
    lists = tests if train is None else (train, *tests)
    warnings = [text for one in lists for text in list_warnings(one, same)]
    if train is not None:
        warnings += [text for one in tests for text in leak_warnings(train, one, same)]
    return list(dict.fromkeys(warnings))


def same_video(lists: Sequence[VideoList], found: Mapping[str, FoundVideos]) -> SameVideo:
    """Which entries are one video, by their files where these were found; copies in own data."""
    return SameVideo(found, {one.dataset for one in lists} - set(DATASETS))


def _read(one: ListSpec, data_paths: DataPaths) -> VideoList | None:
    """None if the list is not here, or made when it is needed."""
    data = data_paths.datasets()[one.dataset]
    if data.embedded:
        return None
    try:
        folder = data_paths.annotation_folder(data)
        names = read_class_names(folder / one.label_file, one.labels.classes)
        items = read_list(folder / one.split.annotations, len(names))
    except (FileNotFoundError, MissingData):
        return None
    return VideoList(one.dataset, one.split.name, items, names)


def _find_own(lists: Sequence[VideoList], data_paths: DataPaths) -> dict[str, FoundVideos]:
    own = {one.dataset for one in lists} - set(DATASETS)
    return {
        name: data_paths.find_videos(
            name,
            [item.path for one in lists if one.dataset == name for item in one.items],
        )
        for name in sorted(own)
    }
