"""Test videos that the last `tcclip data check` could not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from experiments.datasets.check.decoding import DecodedFile, read_decoded
from experiments.datasets.check.record import check_file
from experiments.errors import MissingData
from experiments.grid.spec import ListSpec, RunSpec
from experiments.planning.lists import ListsHere
from tcclip.config import Execution
from tcclip.data.annotations import AnnotationError, read_list

#: How many videos a message names, beside their count.
NAMED = 5


def video_problems(spec: RunSpec, execution: Execution, here: ListsHere) -> Iterator[str]:
    """Test lists with more unreadable videos than allowed, as far as they were decoded before.

    A run would find that out after its training. A file that changed since is not counted.
    """
    allowed = execution.max_unreadable
    for one in spec.suites:
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


def _unreadable(one: ListSpec, here: ListsHere) -> tuple[dict[str, str], int]:
    """(video -> cause, videos of the list); nothing where lists or videos are not here."""
    folder = here.folder(one.dataset)
    state = check_file(here.data_paths, one.dataset).with_suffix(".jsonl")
    decoded = {name: file for name, file in read_decoded(state).items() if file.cause is not None}
    if folder is None or not decoded or not (folder / one.split.annotations).is_file():
        return {}, 0
    with suppress(MissingData, AnnotationError):  # `check_lists` reports a list that is broken
        items = read_list(folder / one.split.annotations)
        paths = [item.path for item in items]
        locate = here.data_paths.find_videos(one.dataset, paths).locate
        found = {item.path: decoded.get(str(locate(item.path))) for item in items}
        causes = {path: _cause(file) for path, file in found.items() if file is not None}
        return {path: cause for path, cause in causes.items() if cause is not None}, len(items)
    return {}, 0


def _cause(file: DecodedFile) -> str | None:
    """Why a file could not be decoded; None if it has changed since."""
    try:
        return file.cause if file.is_current() else None
    except OSError:
        return None
