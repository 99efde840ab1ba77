"""What a run costs: measured, from finished runs of the same kind, or else estimated.

Estimated GPU-hours are how long the GPU computes (by multiply-adds, at the rates in `rates.py`) or
how long its loaders decode, whichever is longer. Videos that are in several test lists count for
each, and class lists of tests, encoded once, for nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.grid.spec import ListSpec, RunSpec
from experiments.machine import cpu_count
from experiments.monitor.rates import MODEL, TEST_VIEWS, TRAINING_CLIPS, clip_seconds
from results.records import Result, RunKey
from tcclip import methods
from tcclip.config import Execution
from tcclip.model_size import class_list_operations, estimated_parameters, forward_operations

#: A training step that computes its activations again has four forwards' multiply-adds, not three.
CHECKPOINTING = 4 / 3
#: Bytes a parameter: best (float32), last (float32), and AdamW's two moments, kept with it.
KEPT_BYTES, TRAINING_BYTES = 8, 16

#: What runs that cost the same have in common; see `kind`.
Kind = tuple[object, ...]


@dataclass(frozen=True)
class Cost:
    """What a run costs; None where that takes a training list that is not on this machine.

    `gpu_hours`: how long GPUs are taken, times their share. `basis` of them: "measured",
    "estimated" or "unknown". `compute_hours`: of a GPU that never waits. `decode_hours`: of one
    core. `bound`: what the estimate is bound by, "GPU" or "decoding".
    """

    videos: int | None
    steps: int | None
    eval_videos: int | None
    gpu_hours: float | None
    basis: str
    gigabytes: float
    compute_hours: float | None = None
    decode_hours: float | None = None
    bound: str | None = None


def cost(
    spec: RunSpec,
    measured: Mapping[Kind, float],
    execution: Execution,
    train_videos: int | None = None,
) -> Cost:
    """The cost of one run.

    `measured`: see `measured_hours`. `train_videos`: length of the training list, where it is not
    published.
    """
    trained = spec.train.epochs > 0
    videos = spec.train_list.split.videos or train_videos if trained else 0
    steps = None if videos is None else spec.epochs_to_train * (videos // spec.train.global_batch)
    counts = [one.split.videos for one in spec.suites]
    eval_videos = sum(c for c in counts if c is not None) if None not in counts else None
    parameters = estimated_parameters(spec.model)
    gigabytes = parameters * (KEPT_BYTES + (TRAINING_BYTES if trained else 0)) / 1e9
    hours = measured.get(kind(spec.key))
    basis = "unknown" if hours is None else "measured"
    made = Cost(videos, steps, eval_videos, hours, basis, gigabytes)
    if hours is not None or videos is None or steps is None:
        return made
    compute = _compute_hours(spec, execution, videos, steps)
    decode = _decode_hours(spec, videos, kept=execution.cache_size != 0)
    made = replace(made, basis="estimated", compute_hours=compute)
    return with_decoding(made, decode, execution)


def with_decoding(made: Cost, decode_hours: float, execution: Execution) -> Cost:
    """An estimate with other hours of decoding; a cost that is no estimate as it is."""
    if made.compute_hours is None:
        return made
    # One process decodes without loader workers too.
    waiting = decode_hours / decoding_processes(execution) * execution.gpus_per_worker
    bound = "decoding" if waiting > made.compute_hours else "GPU"
    hours = max(made.compute_hours, waiting)
    return replace(made, gpu_hours=hours, decode_hours=decode_hours, bound=bound)


def decoding_processes(execution: Execution) -> int:
    """How many decode for a worker; "auto" as if it had this machine to itself."""
    loaders = execution.loader_workers
    return max(1, cpu_count() - 1 if isinstance(loaders, str) else loaders)


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


def _compute_hours(spec: RunSpec, execution: Execution, videos: int, steps: int) -> float:
    """Hours that one GPU computes; the class list is encoded once a step on every worker."""
    reference = forward_operations(MODEL)
    view = forward_operations(spec.model) / reference
    classes = class_list_operations(spec.model, spec.train_list.labels.classes) / reference
    passes = len(methods.get(spec.model.name).gradients_at(spec.model, spec.key.seed, 0))
    clips = view * spec.epochs_to_train * videos + classes * steps * execution.workers
    clips *= passes
    if execution.activation_checkpointing:
        clips *= CHECKPOINTING
    weight_sets = 2 if spec.ensemble_weight is None else 4  # best and last, raw and ensembled
    weight_sets = weight_sets if spec.train.epochs else 1
    views = validations(spec) * _views(spec.validation) + weight_sets * _views(spec.suites)
    views -= 2 * _views(repeated_tests(spec))
    return (clips / TRAINING_CLIPS + view * views / TEST_VIEWS) / 3600


def _decode_hours(spec: RunSpec, videos: int, kept: bool) -> float:
    """Hours of one core that clips take to be decoded, cropped and resized.

    `kept`: what validations decode is kept; a training list may be too large for that.
    """

    def each(one: ListSpec) -> float:
        return clip_seconds(one.dataset, packed=one.pack is not None)

    def seconds(lists: Sequence[ListSpec]) -> float:
        return sum((one.split.videos or 0) * one.views.clips * each(one) for one in lists)

    train = spec.epochs_to_train * videos * each(spec.train_list)
    # A test video is decoded once for all weights.
    again = repeated_tests(spec)
    final = seconds([one for one in spec.suites if one not in again])
    number = min(1, validations(spec)) if kept else validations(spec)
    return (train + number * seconds(spec.validation) + final) / 3600


def validations(spec: RunSpec) -> int:
    """How often a run validates."""
    last = spec.train.epochs - 1
    epochs = range(last + 1 - spec.epochs_to_train, last + 1)
    return sum(epoch % spec.train.validate_every == 0 or epoch == last for epoch in epochs)


def repeated_tests(spec: RunSpec) -> list[ListSpec]:
    """The final tests that take the scores of an equal validation, but for ensembled weights."""
    validated = spec.validation if spec.train.epochs else ()
    same = {"suite": ""}
    known = [one.model_copy(update=same) for one in validated]
    return [one for one in spec.suites if one.model_copy(update=same) in known]


def _views(lists: Sequence[ListSpec]) -> int:
    """Views of all videos of the lists; one without a published length is left out."""
    return sum((one.split.videos or 0) * one.views.clips * one.views.crops for one in lists)
