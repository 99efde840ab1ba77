"""`--dry-run`: the runs of a grid with their states, dependencies and costs; nothing is written.

GPU-hours are measured, from finished runs of the same kind, or else assumed: the multiply-adds of
all views over a rate that was not measured and is stated beside the number.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from experiments.grid.spec import ListSpec, RunSpec
from experiments.monitor.status_table import count_states
from experiments.monitor.table import print_json, print_rows
from experiments.store.ledger import Ledger, matching
from results.reading.location import Location
from results.reading.run_folder import State
from results.records import Result, RunKey
from tcclip.model_size import estimated_parameters, forward_operations

#: Multiply-adds a second that one GPU sustains in mixed precision: assumed, not measured.
ASSUMED_RATE = 30e12
#: Forward and backward over forward alone.
TRAINING_FACTOR = 3.0
#: Bytes a parameter: best (float32), last (float32), and AdamW's two moments while training.
KEPT_BYTES, TRAINING_BYTES = 8, 16
ASSUMPTION = (
    "GPU-hours: measured: the mean of finished runs of this kind; assumed: multiply-adds at "
    f"{ASSUMED_RATE / 1e12:.0f} T/s sustained a GPU, decoding not counted, not measured"
)

#: What runs that cost the same have in common; see `kind`.
Kind = tuple[object, ...]


@dataclass(frozen=True)
class Cost:
    """What a run costs; None where that takes a training list that is not on this machine."""

    videos: int | None
    steps: int | None
    eval_videos: int | None
    gpu_hours: float | None
    #: Of the GPU-hours: "measured", "assumed" or "unknown".
    basis: str
    gigabytes: float


@dataclass(frozen=True)
class PlannedRun:
    """One row of a dry run. `again`: it would be run from the beginning."""

    run_id: str
    state: State
    after: str | None
    cost: Cost
    overrides: tuple[str, ...] = ()
    again: bool = False


def dry_run(
    specs: Sequence[RunSpec],
    out: Location,
    list_length: Callable[[ListSpec], int | None],
    rerun: str | None = None,
) -> list[PlannedRun]:
    """The rows of a grid. Runs that differ in their seed alone cost the same.

    `list_length`: how many videos a list has, None where it is not on this machine. `rerun`: the
    argument of `--rerun`; UserError if it matches nothing.
    """
    ledger = Ledger(out)
    done = ledger.finished(ledger.folders())
    states = ledger.states([spec for spec in specs if spec.run_id not in done])
    states |= {spec.run_id: State.FINISHED for spec in specs if spec.run_id in done}
    measured = measured_hours(done.values())
    again = set() if rerun is None else set(matching(states, rerun))
    alike = {kind(spec.key): spec for spec in specs}
    costs = {key: cost(one, measured, list_length(one.train_list)) for key, one in alike.items()}
    return [
        PlannedRun(
            run_id=spec.run_id,
            state=states[spec.run_id],
            after=spec.parent,
            cost=costs[kind(spec.key)],
            overrides=spec.key.overrides,
            again=spec.run_id in again and states[spec.run_id] is not State.PLANNED,
        )
        for spec in specs
    ]


def print_plan(rows: Sequence[PlannedRun], format: str) -> None:
    """Print a dry run as a table, markdown or JSON, with its totals."""
    if format == "json":
        print_json([asdict(row) for row in rows])
        return
    head = ["run", "state", "after", "train videos", "steps", "test videos", "GPU-h", "", "GB"]
    cells = [_cells(row) for row in rows]
    if any(row.overrides for row in rows):
        head.append("settings")
        for cell, row in zip(cells, rows, strict=True):
            cell.append(" ".join(row.overrides))
    print_rows(count_states([row.state for row in rows]), head, cells, format, left=3)
    again = sum(row.again for row in rows)
    if again:
        print(f"--rerun: {again} of these runs would be run again, from the beginning")
    left = [row.cost for row in rows if row.again or row.state is not State.FINISHED]
    hours, disk = sum(one.gpu_hours or 0.0 for one in left), sum(one.gigabytes for one in left)
    unknown = sum(one.gpu_hours is None for one in left)
    more = f" (and {unknown} runs whose training list is not at hand)" if unknown else ""
    print(f"left: {len(left)} runs, {hours:.1f} GPU-hours{more}, {disk:.1f} GB\n{ASSUMPTION}")


def _cells(row: PlannedRun) -> list[str]:
    one = row.cost
    hours = "–" if one.gpu_hours is None else f"{one.gpu_hours:.2f}"
    counts = ["–" if n is None else str(n) for n in (one.videos, one.steps, one.eval_videos)]
    after = "" if row.after is None else row.after.rpartition("-")[2]
    state = f"{row.state}, again" if row.again else str(row.state)
    return [row.run_id, state, after, *counts, hours, one.basis, f"{one.gigabytes:.1f}"]


# ---- Costs ----


def cost(spec: RunSpec, measured: Mapping[Kind, float], train_videos: int | None = None) -> Cost:
    """The cost of one run.

    `measured`: see `measured_hours`. `train_videos`: length of the training list, where it is not
    published.
    """
    videos = spec.train_list.split.videos or train_videos
    trained = spec.train.epochs > 0
    steps = None if videos is None else spec.train.epochs * (videos // spec.train.global_batch)
    counts = [one.split.videos for one in spec.suites]
    eval_videos = sum(c for c in counts if c is not None) if None not in counts else None
    parameters = estimated_parameters(spec.model)
    gigabytes = parameters * (KEPT_BYTES + (TRAINING_BYTES if trained else 0)) / 1e9
    hours, basis = measured.get(kind(spec.key)), "measured"
    if hours is None:
        hours = _assumed(spec, videos)
        basis = "unknown" if hours is None else "assumed"
    return Cost(videos if trained else 0, steps, eval_videos, hours, basis, gigabytes)


def kind(key: RunKey) -> Kind:
    """Everything of a run's key but the seed."""
    return tuple(value for name, value in key if name != "seed")


def measured_hours(finished: Iterable[Result]) -> dict[Kind, float]:
    """Kind of run -> mean GPU-hours of its finished runs on a GPU."""
    hours: dict[Kind, list[float]] = {}
    for one in finished:
        if one.provenance.gpu_hours > 0:
            hours.setdefault(kind(one.key), []).append(one.provenance.gpu_hours)
    return {key: statistics.fmean(values) for key, values in hours.items()}


def _assumed(spec: RunSpec, videos: int | None) -> float | None:
    if videos is None and spec.train.epochs:
        return None
    view = forward_operations(spec.model)
    train = TRAINING_FACTOR * view * spec.train.epochs * (videos or 0)
    epochs = range(spec.train.epochs)
    validations = len({*epochs[:: spec.train.validate_every], *epochs[-1:]})
    weight_sets = 2 if spec.ensemble_weight is None else 4  # best and last, raw and ensembled
    weight_sets = weight_sets if spec.train.epochs else 1
    views = validations * _views(spec.validation) + weight_sets * _views(spec.suites)
    return (train + view * views) / ASSUMED_RATE / 3600


def _views(lists: Sequence[ListSpec]) -> int:
    """Views of all videos of the lists; one without a published length is left out."""
    return sum((one.split.videos or 0) * one.views.clips * one.views.crops for one in lists)
