"""The per-video scores that runs keep; accuracy by class and confusions from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.reading.location import read_bytes
from results.reading.run_folder import RunFolder
from tcclip.accuracy import top_k_correct
from tcclip.text_files import parse_json

#: The most values that a file may hold: compressed, a few bytes can stand for billions. A test on
#: K-400 has 32 million, twice with the last epoch, twice ensembled.
MOST_VALUES = 500_000_000
#: Key of the parquet file's metadata that holds the class list as a JSON array, if it was kept.
CLASS_NAMES = b"class_names"


@dataclass(frozen=True)
class Predictions:
    """One split under one weight set, a row a video, ordered by video.

    `scores` (videos, classes): sum over views of softmax. `readable`: False counts as wrong.
    `class_names`: "class 0" and so on where the file does not name them.
    """

    videos: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    readable: NDArray[np.bool_]
    class_names: tuple[str, ...]

    def predicted(self) -> NDArray[np.int64]:
        """The best-scored class of each video, the lowest id on ties; -1 where unreadable."""
        best = self.scores.argmax(axis=1).astype(np.int64)
        return np.where(self.readable, best, -1)

    def correct(self, k: int) -> NDArray[np.bool_]:
        """Whether the label is among the `k` best of each video (see `tcclip.accuracy`)."""
        return top_k_correct(self.scores, self.labels, self.readable, k)


def read_predictions(
    folder: RunFolder, suite: str, split: str, *, weights: str, checkpoint: str
) -> Predictions | None:
    """The kept scores of one split under one weight set; None if the run kept none of these.

    ValueError if the file is not a readable parquet file of scores, or has a video twice.
    """
    file = folder.predictions(suite, split)
    data = read_bytes(file)
    if data is None:
        return None
    import pyarrow as pa

    try:
        return _parse(data, weights, checkpoint)
    except (pa.ArrowException, ArithmeticError, AttributeError, LookupError, OSError, TypeError,
            ValueError) as error:  # fmt: skip
        raise ValueError(f"{file}: not readable: {error}") from error


def _parse(data: bytes, weights: str, checkpoint: str) -> Predictions | None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    described = pq.read_metadata(pa.BufferReader(data))
    groups = map(described.row_group, range(described.num_row_groups))
    values = sum(one.column(i).num_values for one in groups for i in range(one.num_columns))
    if values > MOST_VALUES:
        raise ValueError(f"{values} values, more than {MOST_VALUES}")
    table = pq.read_table(pa.BufferReader(data))
    epochs = table.column("checkpoint").cast("string")
    # A run whose last epoch is its best one kept "last" alone.
    epoch = "last" if set(epochs.unique().to_pylist()) == {"last"} else checkpoint
    of_weights = pc.equal(table.column("weights").cast("string"), weights)
    table = table.filter(pc.and_(pc.equal(epochs, epoch), of_weights)).sort_by("video")
    if table.num_rows == 0:
        return None
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")
    videos = tuple(table.column("video").to_pylist())
    if not all(isinstance(video, str) for video in videos):
        raise ValueError("a video's name is no text")
    if len(set(videos)) != len(videos):
        raise ValueError("has a video twice")
    labels = table.column("label").to_numpy().astype(np.int64)
    scores = table.column("scores").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    scores = scores.reshape(len(videos), -1).astype(np.float32)
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"a label that is none of its {scores.shape[1]} classes")
    kept = (table.schema.metadata or {}).get(CLASS_NAMES)
    names = tuple(f"class {i}" for i in range(scores.shape[1]))
    if kept is not None:
        names = tuple(str(name) for name in parse_json(kept, "class_names"))
    if len(names) != scores.shape[1]:
        raise ValueError(f"{len(names)} class names for {scores.shape[1]} classes")
    readable = table.column("readable").to_numpy().astype(np.bool_)
    return Predictions(videos, labels, scores, readable, names)


@dataclass(frozen=True)
class Confusion:
    """`counts` (classes, classes): videos of the row's class predicted as the column's.

    `totals` (classes,): all videos of a class, unreadable ones included.
    """

    counts: NDArray[np.int64]
    totals: NDArray[np.int64]
    names: tuple[str, ...]

    def accuracy(self) -> NDArray[np.float64]:
        """Percent right by class; nan for a class without videos."""
        with np.errstate(invalid="ignore"):
            return np.asarray(100.0 * (np.diag(self.counts) / self.totals), np.float64)

    def mistakes(self, most: int) -> list[tuple[str, str, int, int]]:
        """(true class, predicted class, videos, videos of the true class), most frequent first."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [divmod(int(i), wrong.shape[1]) for i in order]
        return [
            (self.names[t], self.names[p], int(wrong[t, p]), int(self.totals[t]))
            for t, p in pairs
            if wrong[t, p]
        ]


def confusion(several: Sequence[Predictions]) -> Confusion:
    """Pooled over predictions of the same class list, e.g. one split by several seeds' models."""
    classes = several[0].scores.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    totals = np.zeros(classes, np.int64)
    for one in several:
        totals += np.bincount(one.labels, minlength=classes)
        seen = one.readable
        np.add.at(counts, (one.labels[seen], one.predicted()[seen]), 1)
    return Confusion(counts, totals, several[0].class_names)
