"""Lists and class names: whether they can be used, and are those that a run began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import first_few
from experiments.errors import MissingData
from experiments.grid.spec import ListSpec, RunSpec
from experiments.monitor.decodes import Decodes, count_decodes
from experiments.monitor.dry_run import PlannedRun
from experiments.store.ledger import Ledger
from protocols.manifest import manifest
from results.reading.location import exists, read_bytes
from results.reading.metrics_log import recorded_lists
from results.reading.run_folder import RunFolder
from tcclip import methods
from tcclip.config import Execution, ModelConfig
from tcclip.data.annotations import read_all_names, read_list, sha256_of
from tcclip.data.cache.store import TRAINING_SHARE
from tcclip.text_files import FileError

#: Digits of a sha256 in messages.
_SHORT = 10
#: How many runs a note names, beside their count.
_NAMED = 3


@dataclass(frozen=True)
class ListsHere:
    """The lists on this machine; each file is read once, however many runs use it."""

    data_paths: DataPaths
    _digests: dict[Path, str | None] = field(default_factory=dict)
    _paths: dict[Path | None, tuple[str, ...] | None] = field(default_factory=dict)
    #: (data set, list) -> what `videos` found: videos with the cause, and of how many.
    unreadable: dict[tuple[str, str], tuple[dict[str, str], int]] = field(default_factory=dict)

    def folder(self, dataset: str) -> Path | None:
        """The folder of a data set's lists; None if it is not here, or not made yet."""
        data = self.data_paths.datasets().get(dataset)
        if data is None:
            return None
        if data.embedded:
            folder = self.data_paths.cache / data.name
            return folder if (folder / "manifest.json").is_file() else None  # written last
        with suppress(MissingData):
            folder = self.data_paths.annotation_folder(data)
            return folder if folder.is_dir() else None
        return None

    def digest(self, file: Path) -> str | None:
        """sha256 of a file; None if it is not there."""
        if file not in self._digests:
            self._digests[file] = sha256_of(file) if file.is_file() else None
        return self._digests[file]

    def paths(self, one: ListSpec) -> tuple[str, ...] | None:
        """The videos of a list; None if it is not here or cannot be read."""
        folder = self.folder(one.dataset)
        file = None if folder is None else folder / one.split.annotations
        if file not in self._paths:
            self._paths[file] = None
            with suppress(OSError, FileError):
                if file is not None:
                    self._paths[file] = tuple(item.path for item in read_list(file))
        return self._paths[file]

    def present(self, recorded: Mapping[str, str]) -> dict[str, str]:
        """Those of the `recorded` digests' files that are here, with their digests now.

        Published lists only: the content of a user's own is in the run's id.
        """
        found = {}
        for name in recorded:
            dataset, _, file = name.partition("/")
            folder = self.folder(dataset) if file else None
            if folder is None or self.data_paths.dataset(dataset).digests:
                continue
            if (digest := self.digest(folder / file)) is not None:
                found[name] = digest
        return found

    def elsewhere(self, specs: Sequence[RunSpec]) -> Iterator[str]:
        """The data sets whose lists are not here, so that nothing can be said of them."""
        known = self.data_paths.datasets()
        names = dict.fromkeys(one.dataset for spec in specs for one, _ in spec.lists)
        absent = [n for n in names if not known[n].embedded and self.folder(n) is None]
        if absent:
            yield f"not checked, their lists are not on this machine: {', '.join(absent)}"


def planned_decodes(
    specs: Sequence[RunSpec],
    rows: Sequence[PlannedRun],
    data_paths: DataPaths,
    execution: Execution,
) -> tuple[dict[str, Decodes], int]:
    """What the runs that are left decode, and how many bytes of it are kept on this machine."""
    store = data_paths.frame_store(execution.cache_size)
    limit = 0 if store is None else store.limit
    left = [spec for spec, row in zip(specs, rows, strict=True) if row.left]
    return count_decodes(left, ListsHere(data_paths).paths, limit, TRAINING_SHARE), limit


def list_problems(spec: RunSpec, here: ListsHere) -> Iterator[str]:
    """Lists of a run that are missing, and class names that cannot be used."""
    model = methods.resolved(spec.model)
    # The published names fit the published settings: the encoder, slow to load, is not asked.
    fits = not any(one.startswith("model.") for one in spec.key.overrides)
    known = here.data_paths.datasets()
    for one, read in spec.lists:
        folder = here.folder(one.dataset)
        if folder is None or (fits and known[one.dataset].embedded):
            continue
        files = [one.label_file, one.split.annotations] if read else [one.label_file]
        missing = [folder / file for file in files if here.digest(folder / file) is None]
        for file in missing:
            yield not_there(one, file)
        digest = here.digest(folder / one.label_file)
        if digest is None or (fits and digest == _published(one.label_file)):
            continue
        problem = _names_problem(digest, folder / one.label_file, one.labels.classes, model)
        if problem is not None:
            yield problem


def not_there(one: ListSpec, file: Path) -> str:
    """The message for a list or label file that is missing."""
    return (
        f"{one.dataset} {one.split.name}: {file} is not there; get the lists with `tcclip data "
        "fetch`, or say where they are with --annotations"
    )


@cache
def _published(file: str) -> str | None:
    return next((entry.sha256 for entry in manifest() if entry.path == file), None)


@cache
def _names_problem(digest: str, file: Path, classes: int, model: ModelConfig) -> str | None:
    """Why the class names in a file of this content cannot be used with a model, if so."""
    try:
        names = [name for own in read_all_names(file, classes) for name in own]
    except FileError as error:
        return str(error)
    # No text has more tokens than bytes; start, end and full stop are three more.
    wording = methods.get(model.name).wording
    prompt = model.prompt_length if model.prompted_layers else 0
    prompt += len(wording.prompt.encode())
    if prompt + max(len(name.encode()) for name in names) + 3 <= model.text_length:
        return None
    import torch

    from tcclip.model.tokens import tokenise

    try:
        tokenise(names, model, torch.device("cpu"), wording)
    except ValueError as error:
        return f"{file}: {error}"
    return None


# ---- Lists that are not those that a run began with ----


def lists_to_resume(folder: RunFolder) -> Mapping[str, str]:
    """Data set and file -> sha256 of the lists that a run's checkpoint was trained with.

    Empty without a checkpoint, and for a run that is older than this record.
    """
    return recorded_lists(read_bytes(folder.metrics) or b"") if exists(folder.last) else {}


def changed_lists(
    what: str, recorded: Mapping[str, str], present: Mapping[str, str]
) -> Iterator[str]:
    """What has changed of the lists that a run `what` ("began" or "finished") with, and what to
    do; nothing if they are the same."""
    changed = [
        f"{name} (sha256 {recorded[name][:_SHORT]} then, {digest[:_SHORT]} now)"
        for name, digest in present.items()
        if recorded.get(name, digest) != digest
    ]
    if changed:
        yield (
            f"{what} with other lists, class names or packs: {', '.join(changed)}. Put them back, "
            "or give another --out, or --rerun with the run's id to start it again with those of "
            "now"
        )


def other_lists(specs: Sequence[RunSpec], ledger: Ledger) -> Iterator[str]:
    """Finished runs of the same settings with other content of a user's own lists."""
    planned = {spec.run_id: spec.key for spec in specs}
    points = {_point(spec.run_id) for spec in specs if any(one.digest for one in spec.suites)}
    others = [
        folder
        for folder in (ledger.folders() if points else ())
        if folder.run_id not in planned and _point(folder.run_id) in points
    ]
    keys = set(planned.values())
    same = [name for name, result in ledger.finished(others).items() if result.key in keys]
    if same:
        yield (
            "finished before with the same settings and other lists, class names or packs (or in a "
            f"version that did not compare them): {first_few(same, _NAMED)}. They stay as "
            "they are; the table shows the runs asked for"
        )


def _point(run_id: str) -> str:
    return run_id.rpartition("-")[0]
