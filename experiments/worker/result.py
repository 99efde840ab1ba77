"""What a finished run writes: scores of every video as parquet, and its `Result`."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from experiments.datasets.check.record import last_check
from experiments.store.files import write_whole
from experiments.worker import provenance
from experiments.worker.data import RunData
from experiments.worker.job import Job
from results.reading.location import local_copy, read_bytes
from results.reading.metrics_log import read_attempts
from results.reading.run_folder import RunFolder
from results.records import Checkpoint, Measurement, Provenance, Result, Selection, WeightSet
from tcclip.data.annotations import sha256_of
from tcclip.data.cache.frames import DAMAGED
from tcclip.data.clips import TEST_CACHED, TEST_DECODED, TRAIN_CACHED, TRAIN_DECODED
from tcclip.evaluate import EvalList, Scores
from tcclip.train import Progress

#: Counts of the loaders that a result names.
COUNTED = (TEST_DECODED, TEST_CACHED, TRAIN_DECODED, TRAIN_CACHED, DAMAGED)
METRICS: tuple[tuple[Literal["top1", "top5"], int], ...] = (("top1", 1), ("top5", 5))


class Weights(NamedTuple):
    """Which weights are evaluated: of which epoch, and whether ensembled."""

    checkpoint: Checkpoint
    weights: WeightSet

    @property
    def label(self) -> str:
        """Name within one evaluation."""
        return f"{self.checkpoint}-{self.weights}"


def write_predictions(
    data: RunData, weights: Collection[Weights], scores: Mapping[tuple[str, int], Scores]
) -> None:
    """Write one parquet file a split, with a row for each video and weight set."""
    for number, one in enumerate(data.suites):
        tables = [_table(one, key, scores[key.label, number]) for key in weights]
        # So that the label ids can be understood without the lists.
        names = {"class_names": json.dumps(one.class_names)}
        table = pa.concat_tables(tables).replace_schema_metadata(names)
        write = partial(pq.write_table, table, compression="zstd")
        write_whole(data.job.folder.predictions(one.suite, one.split), write)


def _table(one: EvalList, key: Weights, scores: Scores) -> pa.Table:
    rows = len(one.items)
    return pa.table(
        {
            "video": [item.path for item in one.items],
            "label": pa.array([item.label for item in one.items], pa.int32()),
            "weights": pa.array([key.weights] * rows).dictionary_encode(),
            "checkpoint": pa.array([key.checkpoint] * rows).dictionary_encode(),
            "readable": pa.array(scores.readable),
            "scores": pa.FixedSizeListArray.from_arrays(
                pa.array(scores.values.astype(np.float32).ravel()), scores.values.shape[1]
            ),
        }
    )


def make_result(
    data: RunData,
    training: Progress,
    weights: Collection[Weights],
    scores: Mapping[tuple[str, int], Scores],
    start: Mapping[str, torch.Tensor],
    parameters: int,
    started: datetime,
    counts: Mapping[str, int],
) -> Result:
    """Everything `result.json` holds. `start`: the state of the model before its training;
    `counts`: what the loaders of all workers counted.
    """
    spec, measurements = data.job.spec, list[Measurement]()
    for key in weights:
        for number, one in enumerate(data.suites):
            measurements += _measure(one, key, scores[key.label, number])
    if not any(key.checkpoint == "best" for key in weights):
        # The last epoch is the best one: the same weights, so the same numbers.
        best = [one.model_copy(update={"checkpoint": "best"}) for one in measurements]
        measurements = best + measurements
    return Result(
        run_id=spec.run_id,
        key=spec.key,
        selection=Selection(
            rule=spec.selection,
            best_epoch=training.best_epoch,
            best_value=training.best_value,
            last_epoch=spec.train.epochs,
            last_value=training.last_value,
        ),
        measurements=tuple(measurements),
        parameters=parameters,
        provenance=_provenance(data, training, scores, start, started, counts),
    )


def _measure(one: EvalList, key: Weights, scores: Scores) -> Iterator[Measurement]:
    labels = [item.label for item in one.items]
    for metric, k in METRICS:
        yield Measurement(
            suite=one.suite,
            dataset=one.dataset,
            split=one.split,
            classes=len(one.class_names),
            views=one.views.label,
            weights=key.weights,
            checkpoint=key.checkpoint,
            metric=metric,
            value=scores.top(k, labels),
            videos=len(labels),
            unreadable=int((~scores.readable).sum()),
        )


def _provenance(
    data: RunData,
    training: Progress,
    scores: Mapping[tuple[str, int], Scores],
    start: Mapping[str, torch.Tensor],
    started: datetime,
    counts: Mapping[str, int],
) -> Provenance:
    job, ranks = data.job, data.ranks
    commit, dirty = provenance.git_state()
    finished = datetime.now(UTC)
    seconds = (finished - started).total_seconds()
    causes = {path: cause for one in data.unreadable.values() for path, cause in one.items()}
    readers = {
        (data.suites[number].dataset, path): how
        for (_, number), one in scores.items()
        for path, how in one.readers.items()
    }
    cuda = ranks.device.type == "cuda"
    gpus = ranks.world * job.execution.gpus_per_worker if cuda else 0
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        packages=provenance.packages(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=torch.cuda.get_device_name() if cuda else "cpu",
        world_size=ranks.world,
        micro_batch=job.execution.micro_batch_size(job.spec.train),
        global_batch=job.spec.train.global_batch,
        precision=job.spec.train.precision,
        extends=job.spec.parent if job.spec.extends is not None else None,
        extended_epochs=job.spec.extends,
        deterministic=job.execution.deterministic is True if cuda else None,
        started=started.isoformat(timespec="seconds"),
        finished=finished.isoformat(timespec="seconds"),
        wall_seconds=seconds,
        **_attempts(job.folder, seconds / 3600 * gpus),
        **_of_data(data),
        digests=data.digests | _weights_digests(job, start),
        readers=dict(sorted(Counter(readers.values()).items())),
        clips_replaced=training.replaced,
        **{name: counts.get(name, 0) for name in COUNTED},
        videos_unreadable=len(causes),
        video_folders=_own_folders(data),
        titles=_own_titles(data),
        packs={one.dataset: str(one.pack) for one, _ in job.spec.lists if one.pack is not None},
        unreadable=tuple(f"{path}: {cause}" for path, cause in sorted(causes.items())),
    )


def _attempts(folder: RunFolder, gpu_hours: float) -> dict[str, Any]:
    """What `tcclip status` shows of a finished run without reading its metrics.

    `gpu_hours`: of this attempt alone.
    """
    found = read_attempts(read_bytes(folder.metrics) or b"")
    return {
        "host": socket.gethostname(),
        "gpu_hours": gpu_hours + found.earlier_gpu_hours,
        "attempts": found.count or None,
        "clips_per_second": found.clips_per_second,
    }


def _of_data(data: RunData) -> dict[str, Any]:
    """How its videos were loaded, and what is wrong with them."""
    return {
        "data_check": _data_checks(data),
        "data_warnings": data.warnings,
        "videos_expected": data.listed,
        "videos_missing": data.missing,
        "loader_workers": data.pool.workers,
        "waited_for_data": round(data.waited, 3),
        "waiting_advice": data.waiting_advice(),
    }


def _own_folders(data: RunData) -> dict[str, str]:
    known = data.job.data_paths.datasets()
    return {
        name: str(locate.folder.resolve())
        for name, locate in data.locators.items()
        if known[name].digests
    }


def _own_titles(data: RunData) -> dict[str, str]:
    own = data.job.data_paths.own
    used = {one.dataset for one, _ in data.job.spec.lists}
    return {
        one.dataset.name: one.dataset.title
        for one in own
        if one.dataset.name in used and one.dataset.title != one.dataset.name
    }


def _data_checks(data: RunData) -> dict[str, dict[str, int]]:
    names = {one.dataset for one in (data.train, *data.validation, *data.suites)}
    found = {name: last_check(data.job.data_paths, name) for name in sorted(names)}
    return {name: counts for name, counts in found.items() if counts is not None}


def _weights_digests(job: Job, start: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """sha256 of the starting weights' tensors, and of the checkpoint file loaded over them."""
    digest = hashlib.sha256()
    for name in sorted(start):
        digest.update(name.encode())
        digest.update(start[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    digests = {"initial state": digest.hexdigest()}
    if job.initial_weights is not None:
        with local_copy(job.initial_weights) as path:
            digests["initial checkpoint"] = sha256_of(path)
    return digests
