"""Training: from batches to selected weights (SPEC 4).

The numbers depend on the protocol alone: a step's gradient is the mean over `global_batch`
videos however they are split over ranks and micro-batches, every random draw is a function of
(seed, epoch, video), and a resumed run repeats exactly what was lost.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tcclip import methods
from tcclip.config import AugmentConfig, Execution, TrainConfig
from tcclip.data.loader import Batch, TrainLoader
from tcclip.distributed import Ranks
from tcclip.interpolation.weights import WeightAverage
from tcclip.model import Model
from tcclip.schedule import Schedule, build_optimizer, load_optimizer, set_rates
from tcclip.step import StepGradient


class NonFiniteLoss(FloatingPointError):
    """The loss of a step was NaN or infinite; raised before the optimiser could use it."""


class RanksDiffer(RuntimeError):
    """The ranks of a run loaded different training states; raised before a step is made."""


class Paused(RuntimeError):
    """Training paused on request, after its state was saved: it can be resumed."""


class TrainingRecorder(Protocol):
    """Keeps the metrics and states of a run; only the first rank writes, every rank loads."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record."""

    def keep_best(self, model: Model, epoch: int) -> None:
        """Keep `model`, as it is after `epoch`, for the next `save_last`, whose state names it."""

    def save_last(self, state: dict[str, Any], wait: bool) -> None:
        """Save the whole training state, replacing the one before.

        Unless it is to `wait`, the training goes on meanwhile: the tensors may change when this
        returns. A later call raises what went wrong.
        """

    def load_last(self, check: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """The training state to resume from, tensors on the CPU; None at the start.

        `check` raises if it does not fit, before anything is changed.
        """

    def interrupted(self) -> bool:
        """Whether training should pause; the first rank calls this after every step."""


@dataclass
class Progress:
    """What changes during training, beside weights and optimiser. Saved with the training state.

    `replaced`: training clips that took the place of an unreadable video. Epochs count from 1;
    `best_epoch` 0 means that nothing was trained.
    """

    step: int = 0
    epoch_loss: float = 0.0
    replaced: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    last_value: float | None = None


@dataclass
class Trainer:
    """One run's training.

    `validate` scores the present model, after the epoch it is given, on every rank: "top1" and
    "top5" in percent of "videos".
    `start_records`: metrics records to log where training starts or resumes. `start`: as in
    `StepGradient`.
    """

    model: Model
    loader: TrainLoader
    config: TrainConfig
    augment: AugmentConfig
    execution: Execution
    ranks: Ranks
    seed: int
    videos: int
    validate: Callable[[Model, int], Mapping[str, float]]
    recorder: TrainingRecorder
    start_records: Sequence[Mapping[str, Any]] = ()
    start: Mapping[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        config, method = self.config, methods.get(self.model.config.name)
        self.schedule = Schedule(config, self.videos)
        self.progress = Progress()
        self.optimizer = build_optimizer(self.model, method.rate_scales(config), config)
        fp16 = config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.ranks.device.type, enabled=fp16)
        averages = config.epochs > 0 and method.averages(self.model.config)
        self.average = WeightAverage(self.model) if averages else None

    def fit(self) -> Progress:
        """Train from the last saved state, or from the start, to the last epoch.

        Raises NonFiniteLoss naming the step; ValueError if no whole batch fits in an epoch;
        Paused if the recorder was interrupted; RanksDiffer if the ranks loaded different states.
        """
        config, steps_per_epoch = self.config, self.schedule.steps_per_epoch
        if config.epochs == 0:
            self._log_start(0)
            return self.progress
        if steps_per_epoch == 0:
            raise ValueError(
                f"{self.videos} training videos do not fill one global batch of "
                f"{config.global_batch}; lower it with --set train.global_batch=..."
            )
        # Before a state is loaded: the present weights are those the training starts from.
        self._gradient = StepGradient(
            self.model, config, self.augment, self.execution, self.ranks, self.scaler, self.seed,
            self.start,
        )  # fmt: skip
        self._restore()
        self.ranks.copy_first(p.detach() for p in self.model.parameters())
        videos = config.epochs * steps_per_epoch * config.global_batch
        passes = videos // (self.ranks.world * self.execution.micro_batch_size(config))
        self._compiles = self.execution.compiles(self.ranks.device.type, passes)
        self._saved_at = time.monotonic()
        self._log_start(self.progress.step)
        for epoch in range(self.progress.step // steps_per_epoch, config.epochs):
            began = time.monotonic()
            self._train_epoch(epoch)
            seconds = time.monotonic() - began
            if self.average is not None and epoch >= config.warmup_epochs:
                self.average.add()
            with self.average.in_use() if self.average is not None else nullcontext():
                self._end_epoch(epoch, seconds)
            self._save_if_due()
        if self.average is not None:
            self.average.use()
        return self.progress

    def _train_epoch(self, epoch: int) -> None:
        """The steps of `epoch` that are still to be made."""
        progress, steps_per_epoch = self.progress, self.schedule.steps_per_epoch
        chunks_per_step = self.config.global_batch // (self.ranks.world * self.loader.chunk_size)
        chunks: list[Batch] = []
        self.model.train()
        self.model.set_compiled(self._compiles)
        start_step = progress.step - epoch * steps_per_epoch
        for batch in self.loader.epoch(epoch, start_step=start_step):
            chunks.append(batch)
            if len(chunks) < chunks_per_step:
                continue
            set_rates(self.optimizer, self.schedule, progress.step)
            self._step(chunks, epoch)
            chunks = []
            if progress.step % steps_per_epoch:  # else it is saved after the epoch's validation
                self._save_if_due()

    # ---- One step ----

    def _step(self, chunks: list[Batch], epoch: int) -> None:
        """One optimiser step over this rank's chunks of the global batch."""
        progress = self.progress
        loss, replaced = self._gradient(chunks, epoch, progress.step)
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"loss {loss} at optimiser step {progress.step} (epoch {epoch + 1}); "
                "weights were not changed. Try a lower --set train.lr=... or train.precision=fp32"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        progress.step += 1
        progress.epoch_loss += loss
        progress.replaced += replaced
        if self.ranks.first:
            rates = [group["lr"] for group in self.optimizer.param_groups]
            record = {"kind": "step", "epoch": epoch + 1, "step": progress.step, "loss": loss}
            rates_now = {"lr": rates[0], "lr_fast": rates[-1]}
            self.recorder.log({**record, **rates_now, "waited": round(self.loader.waited, 3)})

    # ---- What is recorded ----

    def _log_start(self, step: int) -> None:
        if not self.ranks.first:
            return
        if self.config.epochs:
            cuda = self.ranks.device.type == "cuda"
            start = {
                "kind": "start",
                "step": step,
                "epochs": self.config.epochs,
                "total_steps": self.config.epochs * self.schedule.steps_per_epoch,
                "host": socket.gethostname(),
                "device": torch.cuda.get_device_name(self.ranks.device) if cuda else "cpu",
                "workers": self.ranks.world,
                "gpus": self.ranks.world * self.execution.gpus_per_worker if cuda else 0,
                "global_batch": self.config.global_batch,
            }
            self.recorder.log(start)
        for record in self.start_records:
            self.recorder.log({**record, "step": step})

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        """Validate where it is due, keep the best model, log the epoch."""
        config, progress = self.config, self.progress
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": epoch + 1,
            "step": progress.step,
            "loss": progress.epoch_loss / self.schedule.steps_per_epoch,
            "replaced": progress.replaced,
        }
        progress.epoch_loss = 0.0
        if epoch % config.validate_every == 0 or epoch == config.epochs - 1:
            scores = self.validate(self.model, epoch + 1)
            record |= scores
            progress.last_value = top1 = scores["top1"]
            if progress.best_value is None or top1 > progress.best_value:
                progress.best_value, progress.best_epoch = top1, epoch + 1
                if self.ranks.first:
                    self.recorder.keep_best(self.model, epoch + 1)
        if self.ranks.first:
            self.recorder.log({**record, "train_seconds": round(seconds, 3)})

    def _save_if_due(self) -> None:
        """Save the state if it is time, the training is finished or is to pause: then Paused.

        Only the first rank writes, so its clock alone decides; when it ends, the whole run ends.
        """
        if not self.ranks.first:
            return
        pause, finished = self.recorder.interrupted(), self._finished()
        late = time.monotonic() - self._saved_at >= 60 * self.execution.checkpoint_minutes
        if pause or finished or late:
            state = {"model": self.model.state_dict(), "progress": vars(self.progress).copy()}
            if self.average is not None:
                state["average"] = self.average.state()
            # Of a finished training too: it may be extended.
            state["optimizer"] = self.optimizer.state_dict()
            state["scaler"] = self.scaler.state_dict()
            self.recorder.save_last(state, wait=pause or finished)
            self._saved_at = time.monotonic()
        if pause:
            raise Paused(f"paused after step {self.progress.step}")

    def _finished(self) -> bool:
        return self.progress.step == self.config.epochs * self.schedule.steps_per_epoch

    def _restore(self) -> None:
        state = self.recorder.load_last(self._check_fits)
        steps = self.ranks.gather(0 if state is None else int(state["progress"]["step"]))
        if len(set(steps)) > 1:
            raise RanksDiffer(
                f"the workers would resume from different steps, {steps} in rank order: they do "
                "not see the same checkpoint. The output folder must be the same on every node"
            )
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.restore(state["average"])
        if not self._finished():
            load_optimizer(self.optimizer, state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])

    def _check_fits(self, state: dict[str, Any]) -> None:
        """ValueError for a saved state of another training; LookupError, TypeError or
        AttributeError for what is no state."""
        step = Progress(**state["progress"]).step
        last = self.config.epochs * self.schedule.steps_per_epoch
        both = self.model.state_dict(), state["model"]
        own, saved = ({name: x.shape for name, x in one.items()} for one in both)
        wrong = [] if 0 <= step <= last else [f"step {step} of {last}"]
        wrong += sorted({str(name) for name, _ in own.items() ^ saved.items()})
        if self.average is not None and not self.average.fits(state["average"]):
            wrong.append("the averaged weights")
        optimizer = {"param_groups": [], "state": {}} if step >= last else state["optimizer"]
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        numbers = [one for group in optimizer["param_groups"] for one in group["params"]]
        if step < last and numbers != list(range(len(parameters))):
            wrong.append("the optimiser's parameters")
        for number, kept in optimizer["state"].items():
            if {one.shape for one in kept.values()} - {torch.Size(), parameters[number].shape}:
                wrong.append(f"the optimiser's state of parameter {number}")
        if wrong:
            more = ", ..." if len(wrong) > 3 else ""
            raise ValueError(f"it does not fit this run: {', '.join(wrong[:3])}{more}")
