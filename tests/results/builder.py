"""Run folders with known answers, for the tests of `results`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protocols.datasets import DATASETS
from protocols.protocol import Protocol
from results.records import Failure, Measurement, Provenance, Result, RunKey, Selection

#: (dataset, split, metric, weights, checkpoint) -> percent
Value = Callable[[str, str, str, str, str], float]


def provenance(**changed: Any) -> Provenance:
    """A provenance without anything to remark upon, but for `changed`."""
    plain: dict[str, Any] = {
        "git_commit": "0" * 40, "git_dirty": False, "packages": {"torch": "2.8.0"},
        "python": "3.11.0", "platform": "Linux", "device": "cpu", "world_size": 4,
        "micro_batch": 4, "global_batch": 256, "precision": "bf16",
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:00:00+00:00",
        "wall_seconds": 3600.0, "gpu_hours": 4.0, "digests": {}, "videos_expected": 1000,
    }  # fmt: skip
    return Provenance(**(plain | changed))


def key(protocol: Protocol, **changed: Any) -> RunKey:
    """A point of `protocol`'s grid: TC-CLIP's first data set, base variant, seed 1024."""
    plain: dict[str, Any] = {
        "protocol": protocol.name, "protocol_version": protocol.version,
        "dataset": protocol.datasets[0], "model": "tc_clip", "seed": 1024, "demo": protocol.demo,
    }  # fmt: skip
    return RunKey(**(plain | changed))


def lease(heartbeat: float) -> str:
    """A lease file of a holder on another machine."""
    return json.dumps(
        {"owner": "x", "number": 1, "host": "y", "place": "elsewhere", "pid": 1, "started": 0.0,
         "beat": 1, "heartbeat": heartbeat}
    )  # fmt: skip


def run_id(of: RunKey) -> str:
    """A name as the ledger's: readable, and a hash of the key."""
    digest = hashlib.sha256(of.model_dump_json().encode()).hexdigest()[:10]
    points = [f"k{of.shots}"] if of.shots is not None else []
    points += [f"b{of.base_split}"] if of.base_split is not None else []
    parts = [of.protocol, of.dataset, of.model, of.variant, *points, f"s{of.seed}", digest]
    return "-".join(parts)


def measurements(
    protocol: Protocol, of: RunKey, value: Value, weights: Sequence[str] | None = None
) -> tuple[Measurement, ...]:
    """Every number a run of `protocol` measures, its values from `value`."""
    both = ("raw", "ensembled") if protocol.ensemble_weight is not None else ("raw",)
    found = []
    for suite in (protocol.point_suite(one, of.dataset) for one in protocol.suites):
        data = DATASETS[suite.dataset]
        for split in suite.splits:
            classes = data.labels(data.split(split).labels).classes
            for checkpoint in ("best", "last"):
                for weight in weights or (("raw",) if of.model == "clip" else both):
                    for metric in ("top1", "top5"):
                        found.append(
                            Measurement(
                                suite=suite.name, dataset=suite.dataset, split=split,
                                classes=classes, views=suite.views.label, weights=weight,
                                checkpoint=checkpoint, metric=metric, videos=1000,
                                value=value(suite.name, split, metric, weight, checkpoint),
                            )
                        )  # fmt: skip
    return tuple(found)


def result(
    protocol: Protocol, of: RunKey, value: Value, *, prov: Mapping[str, Any] | None = None
) -> Result:
    """A finished run's record."""
    batch = {"global_batch": protocol.train.global_batch}
    return Result(
        run_id=run_id(of), key=of,
        selection=Selection(
            rule="best_validation_top1", best_epoch=8, best_value=70.0, last_epoch=10,
            last_value=69.0,
        ),
        measurements=measurements(protocol, of, value), parameters=1000,
        provenance=provenance(**(batch | dict(prov or {}))),
    )  # fmt: skip


def own_result(
    protocol: Protocol, of: RunKey, numbers: Mapping[tuple[str, str], float], **prov: Any
) -> Result:
    """A finished run on a data set of a user's own; `numbers`: (suite, split) -> percent right."""
    measured = tuple(
        Measurement(
            suite=suite, dataset=of.dataset, split=split, classes=5, views="2x1", weights="raw",
            checkpoint="best", metric="top1", value=value, videos=20,
        )
        for (suite, split), value in numbers.items()
    )  # fmt: skip
    plain = of.model_copy(update={"dataset": protocol.datasets[0]})
    update = {"run_id": run_id(of), "key": of, "measurements": measured}
    return result(protocol, plain, lambda *_: 0, prov=prov).model_copy(update=update)


def write_spec(out: Path, of: RunKey) -> Path:
    """The folder of a planned run."""
    folder = out / "runs" / run_id(of)
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"run_id": folder.name, "key": of.model_dump(mode="json")}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def write_result(out: Path, one: Result) -> Path:
    """The folder of a finished run."""
    folder = write_spec(out, one.key)
    (folder / "result.json").write_text(one.model_dump_json(indent=1))
    return folder


def write_failure(out: Path, of: RunKey, message: str) -> Path:
    """The folder of a failed run."""
    folder = write_spec(out, of)
    failure = Failure(
        run_id=folder.name, error="RuntimeError", message=message, traceback="", attempt=1,
        time="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    (folder / "failure.json").write_text(failure.model_dump_json())
    return folder


def write_metrics(folder: Path, *, epochs: int, loss: float, top1: float, every: int = 1) -> None:
    """A metrics.jsonl: loss falls from 4 towards `loss`, validation rises towards `top1`."""
    where = {"host": "node", "device": "cpu", "workers": 1, "global_batch": 32}
    lines: list[dict[str, Any]] = [{"kind": "start", "step": 0, "epochs": epochs, **where}]
    for epoch in range(1, epochs + 1):
        share = 1 - 0.5 ** (6 * epoch / epochs)
        value = 4.0 + (loss - 4.0) * share
        lines.append(
            {"kind": "step", "epoch": epoch, "step": 10 * epoch, "loss": value, "lr": 1e-3}
        )
        record = {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "loss": value}
        if epoch == 1 or epoch % every == 0:
            record |= {"top1": top1 * share, "top5": min(100.0, 1.5 * top1 * share), "videos": 1000}
        lines.append(record)
    text = "".join(json.dumps({**line, "time": 1.0}) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def write_scores(
    folder: Path,
    suite: str,
    split: str,
    *,
    labels: Sequence[int],
    classes: int,
    right: float,
    seed: int,
    weights: Sequence[str] = ("raw", "ensembled"),
    checkpoints: Sequence[str] = ("best", "last"),
    names: Sequence[str] = (),
    unreadable: Sequence[int] = (),
) -> None:
    """Kept scores of `labels`' videos, of which about the share `right` is classified rightly."""
    draws = np.random.Generator(np.random.PCG64(seed))
    tables = []
    for weight in weights:
        for checkpoint in checkpoints:
            scores = draws.random((len(labels), classes), np.float32)
            hit = draws.random(len(labels)) < right
            scores[np.arange(len(labels))[hit], np.asarray(labels)[hit]] += 1.0
            scores = 2.0 * scores / scores.sum(axis=1, keepdims=True)
            readable = np.ones(len(labels), bool)
            readable[list(unreadable)] = False
            tables.append(
                pa.table(
                    {
                        "video": [f"{split}/{i:05d}.mp4" for i in range(len(labels))],
                        "label": pa.array(labels, pa.int32()),
                        "weights": pa.array([weight] * len(labels)).dictionary_encode(),
                        "checkpoint": pa.array([checkpoint] * len(labels)).dictionary_encode(),
                        "readable": pa.array(readable),
                        "scores": pa.FixedSizeListArray.from_arrays(
                            pa.array(scores.astype(np.float32).ravel()), classes
                        ),
                    }
                )
            )
    table = pa.concat_tables(tables)
    if names:
        table = table.replace_schema_metadata({"class_names": json.dumps(list(names))})
    path = folder / "predictions" / suite / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
