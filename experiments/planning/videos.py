"""Videos: whether their folders are there, and what the last `tcclip data check` could not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from experiments.datasets.check.decoding import read_decoded
from experiments.datasets.check.record import check_file
from experiments.errors import MissingData
from experiments.grid.spec import ListSpec, RunSpec
from experiments.planning.lists import ListsHere
from tcclip.config import Execution
from tcclip.data.annotations import read_list
from tcclip.text_files import FileError

#: How many videos a message names, beside their count.
NAMED = 5


def video_problems(spec: RunSpec, execution: Execution, here: ListsHere) -> Iterator[str]:
    """Lists that are evaluated with more unreadable videos than allowed, as far as was decoded.

    A run would find that out after an epoch. A file that changed since is not counted.
    """
    allowed = execution.max_unreadable
    for one in dict.fromkeys([*(spec.validation if spec.train.epochs else ()), *spec.suites]):
        key = (one.dataset, one.split.annotations)
        if key not in here.unreadable:
            here.unreadable[key] = _unreadable(one, here)
        causes, total = here.unreadable[key]
        if len(causes) > allowed * total:
            named = [f"{path} ({cause})" for path, cause in list(causes.items())[:NAMED]]
            yield (
                f"{one.dataset} {one.split.name}: {len(causes)} of {total} videos could not be "
                f"read by the last `tcclip data check`, allowed are {allowed:.2%}: "
                f"{'; '.join(named)}{'; ...' if len(causes) > NAMED else ''}. Replace them, or "
                "allow more with --max-unreadable"
            )


def absent_videos(specs: Sequence[RunSpec], here: ListsHere) -> Iterator[tuple[str, str]]:
    """Data sets whose folder of videos is not on this machine, or empty: the name, and what is."""
    names = dict.fromkeys(one.dataset for spec in specs for one, read in spec.lists if read)
    for data in (here.data_paths.dataset(name) for name in names):
        if data.embedded:
            continue
        try:
            folder = here.data_paths.video_folder(data)
            why = "" if any(folder.iterdir()) else "is empty"
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except MissingData as error:
            if here.folder(data.name) is not None:
                yield data.name, str(error)
            continue
        if why:
            place = "`videos:` in its YAML file" if data.digests else "--data-root"
            text = f"{data.name}: the folder of its videos, {folder}, {why}; correct {place}"
            yield data.name, text


def moved_videos(recorded: Mapping[str, str], here: ListsHere) -> Iterator[str]:
    """Own data sets that a finished run read from other folders (`recorded`) than those of now."""
    for name, then in recorded.items():
        data = here.data_paths.datasets().get(name)
        now = then if data is None else str(here.data_paths.video_folder(data).resolve())
        if now != then:
            yield (
                f"{name}: finished with the videos of {then}, now they are in {now}; if those are "
                "other videos, give another --out, or --rerun to compute their numbers"
            )


def _unreadable(one: ListSpec, here: ListsHere) -> tuple[dict[str, str], int]:
    """(video -> cause, videos of the list); nothing where lists or videos are not here."""
    folder = here.folder(one.dataset)
    state = check_file(here.data_paths, one.dataset).with_suffix(".jsonl")
    decoded = {name: file for name, file in read_decoded(state).items() if file.cause}
    if folder is None or not decoded or not (folder / one.split.annotations).is_file():
        return {}, 0
    with suppress(MissingData, FileError):  # `check_lists` reports a list that is broken
        items = read_list(folder / one.split.annotations)
        paths = [item.path for item in items]
        locate = here.data_paths.find_videos(one.dataset, paths).locate
        found = ((path, decoded.get(str(locate(path)))) for path in dict.fromkeys(paths))
        causes = {path: file.cause or "" for path, file in found if file and file.is_current()}
        return causes, len(items)
    return {}, 0
