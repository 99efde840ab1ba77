"""One run on one worker: data and model, training, every suite in one pass, `result.json`."""

from __future__ import annotations

import copy
import logging
import math
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import torch

from experiments.errors import (
    EvaluationOutOfMemory,
    LeaseLost,
    LoaderOutOfMemory,
    OutOfMemory,
    RunPaused,
    StoppedEarly,
    StorageError,
    gpu_errors,
)
from experiments.grid.weights_file import StartWeights
from experiments.store.append_file import AppendFile
from experiments.store.attempt_records import record_pause, record_start
from experiments.store.files import clear_attempts, remove, write_text
from experiments.store.lease import Lease, adopt
from experiments.store.ledger import Ledger
from experiments.worker.checkpoints import RunCheckpoints, take_over
from experiments.worker.data import RunData, detect_dead_loader
from experiments.worker.job import Job
from experiments.worker.memory import (
    RememberedMicroBatch,
    detect_out_of_memory,
    smaller_micro_batch,
)
from experiments.worker.result import Weights, make_result, write_predictions
from results.reading.location import Location, local_copy
from tcclip.config import UNMEASURED_MICRO_BATCH, Execution, ModelConfig, TrainConfig
from tcclip.data.cache.frames import DAMAGED, NOT_KEPT
from tcclip.data.clips import TEST_CACHED, TEST_DECODED, TRAIN_CACHED, TRAIN_DECODED
from tcclip.distributed import Ranks, current_ranks, use_deterministic_algorithms
from tcclip.evaluate import Evaluator, Validations
from tcclip.memory import (
    LARGEST_MICRO_BATCH,
    available_memory,
    largest_that_fits,
    memory_limit,
    training_peak,
    undisturbed,
)
from tcclip.model import Model, build_model
from tcclip.model.checkpoints import ensembled_state, load_checkpoint
from tcclip.step import autocast
from tcclip.train import Paused, Progress, Trainer
from tcclip.weights.layouts import State

log = logging.getLogger(__name__)


def execute(job: Job, cpus: int) -> None:
    """Compute `job`'s run on this worker, from its last checkpoint to its `result.json`.

    `cpus`: those of its machine that are this worker's share.

    Called on every rank. Raises what ended the attempt; the sweep records it.
    """
    torch.set_num_threads(job.execution.cpu_threads)
    torch.manual_seed(job.spec.key.seed)
    if torch.cuda.is_available():
        use_deterministic_algorithms(job.execution.deterministic is True)
    ranks = current_ranks(job.execution.device)
    if ranks.device.type == "cuda" and job.execution.gpus_per_worker < 1:
        # A run that needs more than its share has to fail itself, not the others on the GPU.
        torch.cuda.set_per_process_memory_fraction(job.execution.gpus_per_worker, ranks.device)
    with gpu_errors(gpu_name(ranks.device)):
        _attempt(job, ranks, cpus)


def _attempt(job: Job, ranks: Ranks, cpus: int) -> None:
    if not ranks.first:
        _compute(job, ranks, cpus, None)
        return
    with ExitStack() as stack:
        lease = adopt(job.folder.path, job.owner)
        # The sweep that claimed it releases it, after recording how the run ended.
        stack.callback(lease.stop)
        stack.enter_context(_log_file(job, lease))
        clear_attempts(job.folder.path)
        record_start(job.folder)
        try:
            _compute(job, ranks, cpus, lease)
        # The other ranks wait for this one: the whole job has to end.
        except Paused as error:
            log.info("%s", error)
            with suppress(LeaseLost, StorageError):  # it is paused all the same
                lease.check()
                record_pause(job.folder, str(error))
            raise RunPaused(str(error)) from error
        except (LeaseLost, StoppedEarly) as error:
            log.info("%s", error)
            raise
        except Exception:
            log.exception("the run failed")
            raise
        remove(job.folder.failure)


def _compute(job: Job, ranks: Ranks, cpus: int, lease: Lease | None) -> None:
    """Train, test and write the result. `lease`: on the first rank, which alone writes."""
    started = datetime.now(UTC)
    job.check_files()
    data = RunData.load(job, ranks, cpus)
    if data.store is not None:
        gigabytes = data.store.limit / 1e9
        log.info("decoded frames are kept in %s, up to %.1f GB", data.store.folder, gigabytes)
    with detect_dead_loader(data.pool):
        _train_and_test(data, lease, started)


def _train_and_test(data: RunData, lease: Lease | None, started: datetime) -> None:
    job, spec, ranks = data.job, data.job.spec, data.ranks
    model = build_model(
        spec.model, data.train.class_names,
        clip_weights=job.clip_weights, seed=spec.key.seed,
    ).to(ranks.device)  # fmt: skip
    model.set_activation_checkpointing(job.execution.activation_checkpointing)
    # On the CPU: only ensembling needs them again, and methods that go back to them in training.
    start = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    if job.initial_weights is not None:
        _load(model, job.initial_weights)
    evaluator = Evaluator(
        loader=data.eval_loader,
        augment=spec.augment,
        ranks=ranks,
        autocast=lambda: autocast(spec.train.precision, ranks.device),
        compile=job.execution.compiles(ranks.device.type, _eval_batches(data)),
    )
    validations = Validations(evaluator, data.validation)
    with micro_batch_that_fits(data, model) as data:
        training = _train(data, model, start, validations, lease)
    weights = _weight_sets(job, model, start, training)
    epochs = {"best": training.best_epoch, "last": spec.train.epochs}
    tested = {
        key.label: (one, (epochs[key.checkpoint] or None) if key.weights == "raw" else None)
        for key, one in weights.items()
    }
    with detect_out_of_memory("eval_batch", job.execution.eval_batch):
        scores = validations.final(tested, data.suites)
    counts = sum(ranks.gather(data.counts), Counter[str]())
    if lease is not None:
        data.check_unreadable(data.suites, scores)
        data.warn_of_waiting(after=0)
        write_predictions(data, weights, scores)
        parameters = sum(p.numel() for p in model.parameters())
        _log_counts(counts)
        result = make_result(data, training, weights, scores, start, parameters, started, counts)
        write_text(job.folder.result, result.model_dump_json(indent=1), lease.check)
        log.info("finished in %.1f s", result.provenance.wall_seconds)
    ranks.barrier()


@contextmanager
def micro_batch_that_fits(data: RunData, model: Model) -> Iterator[RunData]:
    """`data` for the training in the block: with a number for the micro-batch "auto".

    If that or a given number is too large after all, it is not chosen again. Called on every rank.
    """
    job, ranks = data.job, data.ranks
    execution, train = job.execution, job.spec.train
    if not train.epochs:
        yield data
        return
    execution.chunk_size(train)  # ValueError if nothing makes the global batch
    if ranks.device.type != "cuda":
        auto = execution.micro_batch == "auto"
        yield _with_micro_batch(data, _unmeasured(model, execution, train)) if auto else data
        return
    sizes = execution.micro_batches(train, LARGEST_MICRO_BATCH)
    available = available_memory(ranks.device, execution.gpus_per_worker)
    kind = {
        "gpu": torch.cuda.get_device_name(ranks.device),
        "available_gib": available,
        "torch": torch.__version__,
        "model": model.config.model_dump(mode="json"),
        "class_tokens": list(model.class_suffix.shape),
        "precision": train.precision,
        "sizes": sizes,
        **execution.model_dump(include={"activation_checkpointing", "compile", "deterministic"}),
    }
    remembered = RememberedMicroBatch(job.data_paths.cache / "micro_batches", kind)
    if execution.micro_batch == "auto":
        limit = memory_limit(model, available)
        found = remembered.find(sizes, lambda: _measure(data, model, sizes, limit))
        size = min(ranks.gather(found))
        log.info("micro-batch: %d videos at once on each GPU", size)
        data = _with_micro_batch(data, size)
        execution = data.job.execution
    try:
        yield data
    except (EvaluationOutOfMemory, LoaderOutOfMemory):
        raise
    except OutOfMemory as error:
        remembered.lower(smaller_micro_batch(execution, train, error.batch))
        raise


def _with_micro_batch(data: RunData, size: int) -> RunData:
    execution = data.job.execution.model_copy(update={"micro_batch": size})
    return replace(data, job=data.job.model_copy(update={"execution": execution}))


def _unmeasured(model: Model, execution: Execution, train: TrainConfig) -> int:
    """A micro-batch as large as `UNMEASURED_MICRO_BATCH` clips of the full size: a tiny model
    spends its time on the calls, whatever the batch."""

    def pixels(config: ModelConfig) -> int:
        return config.num_frames * config.sizes.image_size**2

    alike = UNMEASURED_MICRO_BATCH * pixels(ModelConfig()) // pixels(model.config)
    limit = min(LARGEST_MICRO_BATCH, max(UNMEASURED_MICRO_BATCH, alike))
    return max(execution.micro_batches(train, limit))


def _measure(data: RunData, model: Model, sizes: Sequence[int], limit: int) -> int:
    """The largest micro-batch whose training step takes at most `limit` bytes."""
    spec, device = data.job.spec, data.ranks.device

    def peak(size: int) -> int | None:
        try:
            with detect_out_of_memory("micro_batch", size):
                return training_peak(model, size, spec.train, spec.augment, device)
        except OutOfMemory:
            return None

    with undisturbed(model, device):
        return largest_that_fits(sizes, limit, peak)


def _train(
    data: RunData, model: Model, start: State, validations: Validations, lease: Lease | None
) -> Progress:
    job, spec = data.job, data.job.spec

    def validate(current: Model, epoch: int) -> dict[str, float]:
        """Mean over the validation lists, weighted by their videos: percent of all of them."""
        with detect_out_of_memory("eval_batch", job.execution.eval_batch):
            scores = validations.validate(current)
        data.check_unreadable(data.validation, scores)
        data.warn_of_waiting()
        total = sum(len(one.items) for one in data.validation)
        top1 = top5 = 0.0
        for number, one in enumerate(data.validation):
            labels = [item.label for item in one.items]
            top1 += scores["", number].top(1, labels) * len(labels) / total
            top5 += scores["", number].top(5, labels) * len(labels) / total
        validations.keep(epoch, scores, top1)
        return {"top1": top1, "top5": top5, "videos": total}

    start_records = []
    if spec.extends is not None and spec.parent is not None:
        if lease is not None:
            take_over(Ledger(job.out).folder(spec.parent), job.folder, lease.check)
        data.ranks.barrier()
    if spec.train.epochs:
        data.check_resumable()
        start_records.append({"kind": "lists", "digests": data.digests})
    if job.reduction is not None:
        log.info("%s; going on with %d", job.reduction.cause, job.reduction.after)
        start_records.append({"kind": "memory", **job.reduction.model_dump()})
    began = StartWeights(clip_weights=spec.train.clip_weights, seed=spec.key.seed).model_dump()
    with RunCheckpoints(job.folder, lease, began, spec.augment, spec.train.precision) as recorder:
        trainer = Trainer(
            model=model,
            loader=data.train_loader(),
            config=spec.train,
            augment=spec.augment,
            execution=job.execution,
            ranks=data.ranks,
            seed=spec.key.seed,
            videos=len(data.train.items),
            validate=validate,
            recorder=recorder,
            start_records=start_records,
            start=start,
        )
        size = job.execution.micro_batch_size(spec.train)
        with detect_out_of_memory("micro_batch", size):
            return trainer.fit()


def _log_counts(counts: Counter[str]) -> None:
    """Where test views and training clips came from, and what the cache could not keep."""
    log.info(
        "test views: %d decoded, %d from the cache; training clips: %d decoded, %d from the cache",
        *(counts[name] for name in (TEST_DECODED, TEST_CACHED, TRAIN_DECODED, TRAIN_CACHED)),
    )
    if counts[DAMAGED]:
        log.warning("%d cached videos were damaged, and decoded again", counts[DAMAGED])
    for name, number in counts.items():
        if name.startswith(NOT_KEPT):
            reason = name.removeprefix(NOT_KEPT)
            log.warning("%d decoded videos were not kept in the cache: %s", number, reason)


def gpu_name(device: torch.device) -> str | None:
    """Which GPU of which host, as nvidia-smi names it; None for a CPU."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = visible[index] if index < len(visible) and visible[index] else index
    found = torch.cuda.get_device_properties(index)
    return f"GPU {number}, {found.name}, GPU-{found.uuid}, of {socket.gethostname()}"


def _eval_batches(data: RunData) -> int:
    """How many batches of views this worker tests, in validation and in the end."""
    train, execution = data.job.spec.train, data.job.execution
    validations = math.ceil(train.epochs / train.validate_every)
    lists = [*data.suites, *data.validation * validations]
    views = sum(len(one.items) * one.views.clips * one.views.crops for one in lists)
    return views // (execution.eval_batch * data.ranks.world)


def _load(model: Model, path: Location) -> None:
    with local_copy(path) as copy:
        load_checkpoint(model, copy)


def _weight_sets(
    job: Job, model: Model, start: dict[str, torch.Tensor], training: Progress
) -> dict[Weights, Model]:
    """The models to evaluate: best and last epoch, raw and ensembled with the starting weights."""
    models = {Weights("last", "raw"): model}
    if training.best_epoch != job.spec.train.epochs:
        best = copy.deepcopy(model)
        _load(best, job.folder.best_of(training.best_epoch))
        models[Weights("best", "raw")] = best
    share = job.spec.ensemble_weight
    if share is not None:
        for key, tuned in list(models.items()):
            ensembled = copy.deepcopy(tuned)
            ensembled.load_state_dict(ensembled_state(start, tuned.state_dict(), share))
            models[Weights(key.checkpoint, "ensembled")] = ensembled
    return models


class _LogFile(logging.FileHandler):
    """Says once that a line could not be written; logging's own would print a traceback for each.

    A run does not fail of it: if the disk is full, its other files say so.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(self)
        log.warning("%s cannot be written and ends here: %s", self.baseFilename, sys.exc_info()[1])


@contextmanager
def _log_file(job: Job, lease: Lease) -> Iterator[None]:
    """Log into the run's own file too."""
    file = AppendFile(job.folder.log, lease.check)
    handler = _LogFile(file.local, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        with suppress(OSError):  # writes what is left; `handleError` has said that it cannot
            handler.close()
        file.close()
