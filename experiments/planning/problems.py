"""All checks of a plan's runs, before any of them is started or written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from experiments.datasets.check.plan import check_lists
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import first_few
from experiments.errors import StorageError, UserError
from experiments.grid.request import RunPlan
from experiments.grid.spec import ListSpec, RunSpec
from experiments.planning.lists import (
    ListsHere,
    changed_lists,
    list_problems,
    lists_to_resume,
    other_lists,
)
from experiments.planning.settings import settings_problems
from experiments.planning.videos import absent_videos, moved_videos, video_problems
from experiments.planning.weights import starting_sizes
from experiments.store.ledger import Ledger, matching
from results.reading.location import Location
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

#: How many runs a message names, beside their count.
NAMED = 2


@dataclass
class Findings:
    """What was found. `problems`: a text -> the runs that it is true of."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, run_id: str, texts: Iterable[str]) -> None:
        """Add the problems of a run."""
        for text in texts:
            self.problems.setdefault(text, []).append(run_id)

    def show(self) -> int:
        """Print everything to stderr; the exit status: 2 if there is a problem, else 0."""
        for text in (*self.notes, *(f"problem: {one}" for one in self._texts())):
            print(text, file=sys.stderr)
        return 2 if self.problems else 0

    def refuse(self) -> None:
        """Print the notes; UserError if there is a problem."""
        for note in self.notes:
            print(note, file=sys.stderr)
        if self.problems:
            raise UserError("\n".join([*self._texts(), "nothing was started"]))

    def _texts(self) -> Iterator[str]:
        for text, run_ids in self.problems.items():
            yield f"{text} ({first_few(run_ids, NAMED)})"


def check_plan(
    plan: RunPlan,
    execution: Execution,
    data_paths: DataPaths,
    out: Location,
    rerun: str | None = None,
    elsewhere: bool = False,
) -> Findings:
    """Why runs of a plan could not be computed to their end, or must not count as finished.

    `rerun`: the argument of `--rerun`, whose runs start from the beginning; UserError if it
    matches nothing. `elsewhere`: whether runs are computed on other machines, which may have videos
    that this one has not. The notes are the plan's and more.
    """
    specs, ledger, here = plan.specs, Ledger(out), ListsHere(data_paths)
    found = Findings(notes=[*plan.notes, *here.elsewhere(specs), *other_lists(specs, ledger)])
    # Runs that differ in their seed alone have the same problems.
    problems_of = cache(
        lambda spec: list(dict.fromkeys(_problems(spec, execution, here, plan.grid.files)))
    )
    finished = ledger.finished([ledger.folder(one.run_id) for one in specs])
    states = ledger.states([one for one in specs if one.run_id not in finished])
    states |= dict.fromkeys(finished, State.FINISHED)
    again = set() if rerun is None else set(matching(states, rerun))
    to_run = [one for one in specs if one.run_id in again or states[one.run_id] not in ENDED]
    lists = check_lists(to_run, data_paths, execution.max_unreadable)
    found.notes += [f"warning: {text}" for text in lists.warnings]
    absent = dict(absent_videos(to_run, here))
    of_all = [*_cache_problem(data_paths.cache, to_run), *_device_problem(execution)]
    if elsewhere:
        found.notes += [f"on this machine: {text}" for text in (*absent.values(), *of_all)]
        absent, of_all = {}, []
    for spec in specs:
        run_id = spec.run_id
        state = State.PLANNED if run_id in again else states[run_id]
        if state not in ENDED:
            key = spec.key.model_copy(update={"seed": 0})
            problems = problems_of(spec.model_copy(update={"key": key}))
            of_lists = _of_lists(spec, lists.problems, absent)
            found.add(run_id, dict.fromkeys([*problems, *of_lists, *of_all]))
        if state is State.FINISHED:
            found.notes += moved_videos(finished[run_id].provenance.video_folders, here)
            recorded = finished[run_id].provenance.digests
            found.add(run_id, changed_lists("finished", recorded, here.present(recorded)))
        elif state is not State.PLANNED:
            with suppress(StorageError):  # the run's own attempt says what is wrong there
                begun = lists_to_resume(ledger.folder(run_id))
                found.add(run_id, changed_lists("began", begun, here.present(begun)))
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _of_lists(
    spec: RunSpec, problems: Mapping[str, Sequence[ListSpec]], absent: Mapping[str, str]
) -> Iterator[str]:
    """The problems of the lists that a run reads, and of the folders of their videos."""
    read = [one for one, read in spec.lists if read]
    yield from (text for text, some in problems.items() if not set(some).isdisjoint(read))
    yield from (absent[one.dataset] for one in read if one.dataset in absent)


def _problems(
    spec: RunSpec, execution: Execution, here: ListsHere, files: Mapping[str, Path]
) -> Iterator[str]:
    sizes = spec.model.sizes
    try:
        sizes = starting_sizes(spec, files)
    except (ValueError, OSError) as error:
        yield str(error)
    yield from settings_problems(spec, execution, sizes)
    yield from list_problems(spec, here)
    yield from video_problems(spec, execution, here)


def _device_problem(execution: Execution) -> Iterator[str]:
    """A GPU that is asked for and not there."""
    if execution.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            yield "--device cuda, but torch finds no CUDA device on this machine; use --device cpu"


def _cache_problem(folder: Path, to_run: Sequence[RunSpec]) -> Iterator[str]:
    """A cache folder that runs cannot write into, as in a home that is read-only."""
    made = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if to_run and not (made.is_dir() and os.access(made, os.W_OK | os.X_OK)):
        yield (
            f"the cache folder {folder} cannot be written in ({made} is read-only, another user's "
            "or no folder); set TCCLIP_CACHE to a folder that you may write in"
        )
