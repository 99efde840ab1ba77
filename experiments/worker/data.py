"""A run's data: its annotation lists, read and checked, and the loaders over their videos."""

from __future__ import annotations

import logging
import math
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from experiments import machine
from experiments.datasets.check.plan import find_all, missing_videos, run_warnings
from experiments.datasets.check.videos import SameVideo, VideoList
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import FoundVideos, Locator
from experiments.errors import (
    ListsChanged,
    LoaderDied,
    LoaderOutOfMemory,
    MissingData,
    TooManyUnreadable,
)
from experiments.grid.spec import ListSpec
from experiments.planning.lists import changed_lists, lists_to_resume, not_there
from experiments.worker.job import Job
from experiments.worker.memory import loader_processes
from protocols.datasets import DATASETS
from tcclip.config import Views
from tcclip.data.annotations import (
    Item,
    content_digest,
    read_all_names,
    read_list,
    sha256_of,
)
from tcclip.data.cache.store import Store
from tcclip.data.clips import EvalClips, TrainClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.loader import EvalLoader, TrainLoader
from tcclip.data.loader_pool import LoaderPool, NoMemory
from tcclip.distributed import Ranks
from tcclip.evaluate import EvalList, Scores, group_lists

log = logging.getLogger(__name__)

#: A larger share of waiting for data is said, in the log after so many seconds and at the end.
MUCH_WAITING, WARN_AFTER = 0.1, 60.0

#: How many missing or unreadable videos a message names, beside their count.
NAMED = 5


@dataclass(frozen=True)
class RunData:
    """Every list of a run, checked: no more videos are missing than the run allows.

    `digests`: "data set/file" -> sha256, of a user's own file that of its content. `listed`: how
    many different videos the lists hold, `missing`: how many of them are not there. `locators`:
    data set -> where its videos are. `warnings`: what is odd in the lists; of rank 0 alone.
    `unreadable`: (data set, split) -> what `check_unreadable` was told last: video -> cause.
    `store`: where decoded frames are kept. `counts`: what this worker's loaders counted.
    `cpus`: this worker's share of its machine's. `pool`: what loads all its videos; `tests`: the
    loaders over test videos that exist; `said`: what is logged once.
    """

    job: Job
    ranks: Ranks
    train: EvalList
    validation: tuple[EvalList, ...]
    suites: tuple[EvalList, ...]
    digests: dict[str, str]
    listed: int
    missing: int
    locators: dict[str, Locator]
    warnings: tuple[str, ...]
    unreadable: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    store: Store | None = None
    counts: Counter[str] = field(default_factory=Counter)
    cpus: int = 1
    pool: LoaderPool = field(default_factory=lambda: LoaderPool(0))
    tests: dict[tuple[str, Views, tuple[Item, ...]], EvalLoader] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, job: Job, ranks: Ranks, cpus: int = 1) -> RunData:
        """Read the lists of `job` and look for their videos. `cpus`: this worker's share.

        Raises FileError for a broken line, MissingData for a list or too many videos that
        are not there, ListsChanged for a user's own list that has changed since it was planned.
        """
        spec, paths = job.spec, job.data_paths
        digests: dict[str, str] = {}
        digests |= _check_packs(spec.lists, paths)
        used = [_read(one, paths, digests, items) for one, items in spec.lists]
        known = [_video_list(one) for one in used]
        found = find_all(known, paths)
        for one in [one for one in known if one.items]:
            missing, allowed = found[one.dataset].missing, job.execution.max_unreadable
            if (text := missing_videos(one, missing, allowed)) is not None:
                raise MissingData(text)
        trained, tests = spec.train.epochs > 0, len(used) - len(spec.suites)
        return cls(
            job, ranks, used[0], tuple(used[1:tests]), tuple(used[tests:]), digests,
            listed=sum(len(one.files) + len(one.missing) for one in found.values()),
            missing=sum(len(one.missing) for one in found.values()),
            locators={name: one.locate for name, one in found.items()},
            warnings=tuple(_warnings(known, tests, found, trained)) if ranks.rank == 0 else (),
            store=paths.frame_store(job.execution.cache_size),
            cpus=cpus,
        )  # fmt: skip

    @cached_property
    def decoder(self) -> Decoder:
        """The one process that decodes for a process that loads."""
        return Decoder(self.job.spec.augment.reader, self.job.execution.decode_timeout)

    def check_resumable(self) -> None:
        """ListsChanged if the checkpoint to resume from was trained with other lists than these."""
        for text in changed_lists("began", lists_to_resume(self.job.folder), self.digests):
            raise ListsChanged(f"{self.job.spec.run_id} {text}")

    def train_loader(self) -> TrainLoader:
        """This rank's loader over the training list. It sets how many processes load, for the
        tests too: these are made known to them before they start."""
        spec, execution = self.job.spec, self.job.execution
        # Where a mirrored clip shows another class (SSv2), none is flipped.
        no_flip = {} if spec.flip else {"flip": 0.0}
        clips = TrainClips(
            self.train.items,
            # Nothing was looked for where nothing is trained on, and nothing will be read.
            self.locators.get(self.train.dataset, Path),
            num_frames=spec.model.num_frames,
            augment=spec.augment.model_copy(update=no_flip),
            seed=spec.key.seed,
            decoder=self.decoder,
            augment_later=self.ranks.device.type == "cuda",
            store=self.store,
        )
        # Where nothing is trained, any number of workers will do.
        chunk_size = execution.chunk_size(spec.train) if spec.train.epochs else 1
        self._set_workers(chunk_size)
        for group in (*group_lists(self.validation), *group_lists(self.suites)):
            self.eval_loader(group.dataset, group.items, group.views)
        return TrainLoader(
            clips,
            global_batch=spec.train.global_batch,
            chunk_size=chunk_size,
            pool=self.pool,
            rank=self.ranks.rank,
            world=self.ranks.world,
            counts=self.counts,
        )

    def _set_workers(self, chunk_size: int) -> None:
        spec, execution = self.job.spec, self.job.execution
        views = [one.views.clips * one.views.crops for one in (*self.validation, *self.suites)]
        clips = max(chunk_size, execution.eval_batch, *views)
        frames = clips * spec.model.num_frames
        self.pool.workers, why = loader_processes(
            execution, self.cpus, frames * 3 * max(spec.augment.crop, spec.augment.resize) ** 2
        )
        if self.ranks.first:
            log.info("loader processes: %d (%s)", self.pool.workers, why)

    def eval_loader(self, name: str, items: Sequence[Item], views: Views) -> EvalLoader:
        """This rank's loader over `items` of data set `name`; the same one each time."""
        key = (name, views, tuple(items))
        if key not in self.tests:
            self.tests[key] = self._make_eval_loader(*key)
        return self.tests[key]

    def _make_eval_loader(self, name: str, views: Views, items: Sequence[Item]) -> EvalLoader:
        spec, execution = self.job.spec, self.job.execution
        clips = EvalClips(
            items,
            self.locators[name],
            num_frames=spec.model.num_frames,
            augment=spec.augment,
            views=views,
            seed=spec.key.seed,
            decoder=self.decoder,
            store=self.store,
        )
        # `eval_batch` counts views, since they take the memory.
        batch = max(1, math.ceil(execution.eval_batch / (views.clips * views.crops)))
        return EvalLoader(
            clips,
            batch=batch,
            pool=self.pool,
            rank=self.ranks.rank,
            world=self.ranks.world,
            counts=self.counts,
        )

    @property
    def waited(self) -> float:
        """The share of its time, since its first batch, that this worker waited for data."""
        return min(1.0, self.pool.waited / max(self.pool.waited_of, 1e-6))

    def waiting_advice(self) -> str | None:
        """What to do against waiting for data; None where there is little of it."""
        loaders = self.pool.workers
        if self.waited <= MUCH_WAITING:
            return None
        if self.pool.refused:
            return "no process that loads videos could be started; see the log, and tcclip doctor"
        if loaders + 1 < self.cpus:
            return f"give it more loader processes, --loader-workers {self.cpus - 1}"
        return (
            f"its share of {self.cpus} CPUs is in use (loader processes: {loaders}); more CPUs, "
            "fewer runs at once (--max-concurrent) or smaller videos would help"
        )

    def warn_of_waiting(self, after: float = WARN_AFTER) -> None:
        """Log, once, how much of more than `after` seconds was spent waiting for data."""
        advice = self.waiting_advice()
        if advice is None or self.pool.waited_of < after or "waiting" in self.said:
            return
        self.said.add("waiting")
        log.warning("waits for data %.0f %% of its time: %s", 100 * self.waited, advice)

    def check_unreadable(
        self, lists: Sequence[EvalList], scores: Mapping[tuple[str, int], Scores]
    ) -> None:
        """TooManyUnreadable if more of a list's videos than allowed could not be read."""
        allowed = self.job.execution.max_unreadable
        for (_, number), one in scores.items():
            listed = lists[number]
            self.unreadable[listed.dataset, listed.split] = one.causes
            count, total = int((~one.readable).sum()), len(one.readable)
            if count > allowed * total:
                named = [f"{path} ({why})" for path, why in sorted(one.causes.items())[:NAMED]]
                raise TooManyUnreadable(
                    f"{listed.dataset} {listed.split}: {count} of {total} videos could not be "
                    f"read, allowed are {allowed:.2%}: {'; '.join(named)}. Replace them, or allow "
                    "more with --max-unreadable"
                )


@contextmanager
def detect_dead_loader(pool: LoaderPool) -> Iterator[None]:
    """Raise LoaderDied, or LoaderOutOfMemory, where a process of `pool` ended in the block, or
    found no memory. The pool is closed at the end."""
    killed = machine.killed_for_memory()
    try:
        yield
    except NoMemory as error:
        raise LoaderOutOfMemory(_no_memory(pool, str(error)), pool.workers) from error
    except RuntimeError as error:
        ends = [signal.Signals(-code).name for code in pool.exit_codes() if code < 0]
        if not pool.exit_codes():
            raise
        # SIGKILL is how the system ends what takes too much memory; others send it as well.
        known = killed is not None and machine.killed_for_memory() == killed
        what = f"was ended by {ends[0]}" if ends else "ended by itself"
        if "SIGBUS" in ends or ("SIGKILL" in ends and not known):
            raise LoaderOutOfMemory(_no_memory(pool, f"one {what}"), pool.workers) from error
        raise LoaderDied(
            f"a process that loads videos {what}; if it happens again, --loader-workers 0 loads "
            "them in the run's own process"
        ) from error
    finally:
        pool.close()


def _no_memory(pool: LoaderPool, what: str) -> str:
    return f"not enough memory for --loader-workers {pool.workers}: {what}"


def _read(spec: ListSpec, data_paths: DataPaths, digests: dict[str, str], items: bool) -> EvalList:
    """The list with its class names; without its videos if `items` is false. Adds to `digests`."""
    folder = data_paths.annotation_folder(data_paths.dataset(spec.dataset))
    files = [spec.label_file, spec.split.annotations] if items else [spec.label_file]
    for name in files:
        if not (folder / name).is_file():
            raise MissingData(not_there(spec, folder / name))
    names = read_all_names(folder / spec.label_file, spec.labels.classes)
    videos = read_list(folder / spec.split.annotations, len(names)) if items else []
    contents: dict[str, Sequence[Item] | Sequence[tuple[str, ...]]] = {spec.label_file: names}
    if items:
        contents[spec.split.annotations] = videos
    digests.update(_digests(spec.dataset, contents, data_paths))
    return EvalList(
        suite=spec.suite,
        dataset=spec.dataset,
        split=spec.split.name,
        items=tuple(videos),
        class_names=tuple(own[0] for own in names),
        views=spec.views,
        all_names=tuple(names) if any(len(own) > 1 for own in names) else None,
    )


def _digests(
    name: str,
    contents: Mapping[str, Sequence[Item] | Sequence[tuple[str, ...]]],
    data_paths: DataPaths,
) -> dict[str, str]:
    """The digests of a data set's files. ListsChanged if a user's own are not the planned ones."""
    data = data_paths.dataset(name)
    folder = data_paths.annotation_folder(data)
    if not data.digests:
        return {f"{name}/{file}": sha256_of(folder / file) for file in contents}
    digests = {file: content_digest(content) for file, content in contents.items()}
    for file, digest in digests.items():
        if data.digests.get(file, digest) != digest:
            raise ListsChanged(
                f"{folder / file} has changed since this run was planned; the same command again "
                "plans a run of its own for what it says now"
            )
    return {f"{name}/{file}": digest for file, digest in digests.items()}


def _check_packs(lists: Sequence[tuple[ListSpec, bool]], data_paths: DataPaths) -> dict[str, str]:
    """The packs' digests. ListsChanged if videos are read from other packs than was planned."""
    digests = {}
    for one in (one for one, read in lists if read):
        data = data_paths.dataset(one.dataset)
        if data.pack != one.pack:
            planned, here = (pack or "no pack" for pack in (one.pack, data.pack))
            raise ListsChanged(
                f"{one.dataset}: the run was planned to read its videos from {planned}, and "
                f"{data_paths.video_folder(data)} is {here}; plan it on a machine that sees the "
                "same folder, or correct --data-root"
            )
        if one.pack is not None:
            digests[f"{one.dataset}/pack"] = str(one.pack.digest)
    return digests


def _warnings(
    lists: Sequence[VideoList], tests: int, found: Mapping[str, FoundVideos], trained: bool
) -> list[str]:
    """What is odd in the lists: the first is for training, those from `tests` on for tests."""
    same = SameVideo(found, copies=found.keys() - DATASETS.keys())
    return run_warnings(lists[: int(trained)], lists[1:tests], lists[tests:], same)


def _video_list(one: EvalList) -> VideoList:
    names = one.all_names or [(name,) for name in one.class_names]
    return VideoList(one.dataset, one.split, one.items, names)
