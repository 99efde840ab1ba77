"""What is wrong or odd in the lists of runs that are planned, or of one that begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.datasets.check.class_names import check_llm_names, equal_prompts
from experiments.datasets.check.lists import class_warnings, leak_warnings, list_warnings
from experiments.datasets.check.videos import SameVideo, VideoList
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import FoundVideos
from experiments.errors import MissingData
from experiments.grid.spec import ListSpec, RunSpec
from protocols.datasets import DATASETS
from tcclip.data.annotations import read_all_names, read_list
from tcclip.text_files import FileError


class ListFindings(NamedTuple):
    """What is wrong in lists of planned runs, and what is odd.

    `problems`: what makes numbers meaningless or lists unusable -> the lists that it is true of.
    """

    problems: dict[str, list[ListSpec]]
    warnings: list[str]


#: How many videos a message names, beside their count.
NAMED = 5


def check_lists(
    specs: Sequence[RunSpec], data_paths: DataPaths, max_unreadable: float = 0.0
) -> ListFindings:
    """What is wrong or odd in the lists of `specs`; those not on this machine are left out.

    The videos of own data sets are looked for, too; a share of `max_unreadable` may be missing.
    """
    # The lists that a run reads: those for training, for validation, for tests.
    runs = dict.fromkeys(
        ((spec.train_list,), spec.validation, spec.suites)
        if spec.train.epochs
        else ((), (), spec.suites)
        for spec in specs
    )
    problems: dict[str, list[ListSpec]] = {}
    warnings: list[str] = []
    read: dict[ListSpec, VideoList] = {}
    for one in dict.fromkeys(one for used in runs for some in used for one in some):
        try:
            if (known := _read(one, data_paths)) is not None:
                read[one] = known
        except FileError as error:
            problems.setdefault(str(error), []).append(one)
    equal = {names: equal_prompts(names) for names in {tuple(one.classes) for one in read.values()}}
    for one, known in read.items():
        if (text := equal[tuple(known.classes)]) is None:
            continue
        if one.dataset in DATASETS:  # published names are used as published
            warnings.append(f"{one.dataset}: {text}")
        else:
            problems.setdefault(f"{one.dataset}: {text}", []).append(one)
    for name, labels in dict.fromkeys((one.dataset, one.labels) for one in read if one.llm):
        if name not in DATASETS and (
            llm := check_llm_names(data_paths.dataset(name), labels, data_paths)
        ):
            warnings += [f"{name} {labels.name}, {llm.file}: {text}" for text in llm.elsewhere]
    own = [known for known in read.values() if known.dataset not in DATASETS]
    found = find_all(own, data_paths)
    for one, known in read.items():
        if one.dataset in found and found[one.dataset].folder.is_dir():
            lost = missing_videos(known, found[one.dataset].missing, max_unreadable)
            if lost is not None:
                problems.setdefault(lost, []).append(one)
    same = SameVideo(found, copies=found)
    for used in runs:
        train, validation, suites = ([read[one] for one in some if one in read] for some in used)
        warnings += run_warnings(train, validation, suites, same)
    return ListFindings(problems, list(dict.fromkeys(warnings)))


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


def run_warnings(
    train: Sequence[VideoList],
    validation: Sequence[VideoList],
    suites: Sequence[VideoList],
    same: SameVideo,
) -> list[str]:
    """What is odd in the lists that a run reads, each text once."""
    tests = (*validation, *suites)
    warnings = [text for one in (*train, *tests) for text in list_warnings(one, same)]
    for one in train:
        warnings += [text for test in tests for text in leak_warnings(one, test, same)]
        warnings += [text for test in tests for text in class_warnings(one, test)]
    for one in validation:
        # Published: the test list itself (SPEC 4).
        for test in (test for test in suites if test.title != one.title):
            warnings += leak_warnings(one, test, same, kind="validation")
    return list(dict.fromkeys(warnings))


def find_all(lists: Sequence[VideoList], data_paths: DataPaths) -> dict[str, FoundVideos]:
    """Data set -> the files of all its videos in `lists`."""
    paths: dict[str, list[str]] = {one.dataset: [] for one in lists}
    for one in lists:
        paths[one.dataset] += [item.path for item in one.items]
    return {name: data_paths.find_videos(name, listed) for name, listed in paths.items() if listed}


def _read(one: ListSpec, data_paths: DataPaths) -> VideoList | None:
    """None if the list is not here, or made when it is needed."""
    data = data_paths.dataset(one.dataset)
    if data.embedded:
        return None
    try:
        folder = data_paths.annotation_folder(data)
        names = read_all_names(folder / one.label_file, one.labels.classes)
        items = read_list(folder / one.split.annotations, len(names))
    except (FileNotFoundError, MissingData):
        return None
    return VideoList(one.dataset, one.split.name, items, names)
