"""Training: from batches to selected weights (SPEC 4).

The numbers depend on the protocol alone: a step's gradient is the mean over `global_batch`
videos however they are spread over ranks and micro-batches, every random draw is a function of
(seed, epoch, video), and a resumed run repeats exactly what was lost.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tcclip.config import AugmentConfig, Execution, TrainConfig
from tcclip.data.loader import Batch, TrainLoader
from tcclip.data.mixing import mix
from tcclip.data.transforms import normalise
from tcclip.distributed import Ranks
from tcclip.model import Model
from tcclip.schedule import Schedule, build_optimizer, set_rates


class NonFiniteLoss(FloatingPointError):
    """The loss of a step was NaN or infinite; raised before the optimiser could use it."""


class RanksDiffer(RuntimeError):
    """The workers of a run would go on from different states; raised before a step is made."""


class Paused(RuntimeError):
    """Training was asked to pause, and did after its state was saved: it can go on from there."""


@dataclass(frozen=True)
class Validation:
    """Top-1 and top-5 in percent of `videos`."""

    top1: float
    top5: float
    videos: int


@dataclass(frozen=True)
class Fit:
    """What training selected. Epochs count from 1; 0 means nothing was trained."""

    best_epoch: int
    best_value: float | None
    last_epoch: int
    last_value: float | None
    #: Training clips that stood in for an unreadable video, over all epochs.
    replaced: int = 0


class Journal(Protocol):
    """Where a training run is written down; only the first rank writes, every rank loads."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record."""

    def save_best(self, model: Model, epoch: int) -> None:
        """Keep `model`, as it is after `epoch`; it counts once a training state names the epoch."""

    def save_last(self, state: dict[str, Any]) -> None:
        """Keep the whole training state, replacing the one before."""

    def load_last(self) -> dict[str, Any] | None:
        """The training state to go on from, tensors on the CPU; None at the start."""

    def interrupted(self) -> bool:
        """Whether somebody wants training to pause; the first rank asks after every step."""


@dataclass
class Progress:
    """What changes as training goes on, beside weights and optimiser."""

    step: int = 0
    epoch_loss: float = 0.0
    replaced: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    last_value: float | None = None


@dataclass(frozen=True)
class Trainer:
    """One run's training. `validate` scores the model as it stands and is called on every rank.

    `notes`: records to write into the journal where training starts or goes on.
    """

    model: Model
    loader: TrainLoader
    config: TrainConfig
    augment: AugmentConfig
    execution: Execution
    ranks: Ranks
    seed: int
    videos: int
    validate: Callable[[Model], Validation]
    journal: Journal
    notes: Sequence[Mapping[str, Any]] = ()

    def fit(self) -> Fit:
        """Train from the last saved state, or from the start, to the last epoch.

        Raises NonFiniteLoss naming the step; ValueError if no whole batch fits in an epoch;
        Paused if the journal was interrupted; RanksDiffer if the ranks loaded different states.
        """
        config, schedule = self.config, Schedule(self.config, self.videos)
        if config.epochs == 0:
            self._note(0)
            return Fit(0, None, 0, None)
        if schedule.steps_per_epoch == 0:
            raise ValueError(
                f"{self.videos} training videos do not fill one global batch of "
                f"{config.global_batch}; lower it with --set train.global_batch=..."
            )
        optimizer = build_optimizer(self.model, self.model.fast_parameter_names(), config)
        scaler = torch.amp.GradScaler(self.ranks.device.type, enabled=config.precision == "fp16")
        progress = self._restore(optimizer, scaler)
        wrapped = self._wrap()
        self._log_start(progress.step, schedule)
        saved = time.monotonic()
        for epoch in range(progress.step // schedule.steps_per_epoch, config.epochs):
            within = progress.step - epoch * schedule.steps_per_epoch
            began, chunks = time.monotonic(), []
            self.model.train()
            for batch in self.loader.epoch(epoch, start_step=within):
                chunks.append(batch)
                if len(chunks) < self._chunks_per_step:
                    continue
                set_rates(optimizer, schedule, progress.step)
                self._step(wrapped, optimizer, scaler, chunks, epoch, progress)
                chunks = []
                # The first rank alone writes, so its clock alone decides; the others need not know.
                # Not after an epoch's last step: its validation still belongs to it.
                within = progress.step % schedule.steps_per_epoch
                pause = within > 0 and self._interrupted()
                late = time.monotonic() - saved > 60 * self.execution.checkpoint_minutes
                if within and (pause or late):
                    self._save(optimizer, scaler, progress)
                    saved = time.monotonic()
                if pause:
                    raise Paused(f"paused after step {progress.step}")
            self._end_epoch(epoch, schedule, progress, time.monotonic() - began)
            self._save(optimizer, scaler, progress)
            saved = time.monotonic()
            if self._interrupted():
                raise Paused(f"paused after step {progress.step}")
        return Fit(
            progress.best_epoch, progress.best_value, config.epochs, progress.last_value,
            progress.replaced,
        )  # fmt: skip

    def _log_start(self, step: int, schedule: Schedule) -> None:
        if self.ranks.first:
            total = self.config.epochs * schedule.steps_per_epoch
            start = {"kind": "start", "step": step, "epochs": self.config.epochs}
            where = {"host": socket.gethostname(), "device": device_name(self.ranks.device)}
            how = {"workers": self.ranks.world, "global_batch": self.config.global_batch}
            self.journal.log({**start, "total_steps": total, **where, **how})
        self._note(step)

    def _note(self, step: int) -> None:
        for note in self.notes if self.ranks.first else ():
            self.journal.log({**note, "step": step})

    def _interrupted(self) -> bool:
        """The first rank alone looks: where it ends, the whole run does."""
        return self.ranks.first and self.journal.interrupted()

    @property
    def _chunks_per_step(self) -> int:
        return self.config.global_batch // (self.ranks.world * self.loader.load_batch)

    def _wrap(self) -> nn.Module:
        model: nn.Module = self.model
        if self.execution.compile:
            model = cast(nn.Module, torch.compile(model))
        if self.ranks.world == 1:
            return model
        ids = [self.ranks.device] if self.ranks.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def _step(
        self,
        wrapped: nn.Module,
        optimizer: torch.optim.AdamW,
        scaler: torch.amp.GradScaler,
        chunks: list[Batch],
        epoch: int,
        progress: Progress,
    ) -> None:
        """One optimiser step over this rank's chunks of the global batch."""
        optimizer.zero_grad(set_to_none=True)
        share = self.config.global_batch // self.ranks.world
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        replaced = torch.zeros((), dtype=torch.int64, device=self.ranks.device)
        for number, batch in enumerate(chunks):
            replaced += batch.replaced
            video, targets = self._mixed(batch, epoch, progress.step)
            parts = list(
                zip(
                    video.split(self.execution.micro_batch),
                    targets.split(self.execution.micro_batch),
                    strict=True,
                )
            )
            for part, (clip, target) in enumerate(parts):
                last = number == len(chunks) - 1 and part == len(parts) - 1
                with self._synchronise(wrapped, last):
                    with self.autocast():
                        logits = wrapped(clip).logits
                    loss = soft_target_loss(logits, target) / share
                    scaler.scale(loss).backward()
                total += loss.detach().double()
        mean = float(self.ranks.sum(total)) / self.ranks.world
        if not math.isfinite(mean):
            raise NonFiniteLoss(
                f"loss {mean} at optimiser step {progress.step} (epoch {epoch + 1}); "
                "weights were not touched. Try a lower --set train.lr=... or train.precision=fp32"
            )
        scaler.step(optimizer)
        scaler.update()
        progress.step += 1
        progress.epoch_loss += mean
        progress.replaced += int(self.ranks.sum(replaced))
        self._log_step(optimizer, epoch, progress, mean)

    def _log_step(
        self, optimizer: torch.optim.AdamW, epoch: int, progress: Progress, loss: float
    ) -> None:
        if self.ranks.first:
            rates = [group["lr"] for group in optimizer.param_groups]
            record = {"kind": "step", "epoch": epoch + 1, "step": progress.step, "loss": loss}
            self.journal.log({**record, "lr": rates[0], "lr_fast": rates[-1]})

    def _mixed(self, batch: Batch, epoch: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.ranks.device
        video = normalise(batch.video.to(device, non_blocking=True), self.augment)
        video = video.to(next(self.model.parameters()).dtype)
        return mix(
            video,
            batch.labels.to(device),
            batch.indices,
            n_classes=len(self.model.class_names),
            config=self.config.mix,
            seed=self.seed,
            epoch=epoch,
            step=step,
        )

    def _synchronise(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the ranks once a step, at its last micro-batch."""
        if isinstance(wrapped, DistributedDataParallel) and not last:
            return wrapped.no_sync()
        return nullcontext()

    def autocast(self) -> torch.autocast:
        """The mixed precision the run asks for; none in float32."""
        return autocast(self.config, self.ranks.device)

    def _end_epoch(
        self, epoch: int, schedule: Schedule, progress: Progress, seconds: float
    ) -> None:
        config = self.config
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": epoch + 1,
            "step": progress.step,
            "loss": progress.epoch_loss / schedule.steps_per_epoch,
            "replaced": progress.replaced,
        }
        progress.epoch_loss = 0.0
        if epoch % config.validate_every == 0 or epoch == config.epochs - 1:
            scores = self.validate(self.model)
            record |= {"top1": scores.top1, "top5": scores.top5, "videos": scores.videos}
            progress.last_value = scores.top1
            if progress.best_value is None or scores.top1 > progress.best_value:
                progress.best_value, progress.best_epoch = scores.top1, epoch + 1
                if self.ranks.first:
                    self.journal.save_best(self.model, epoch + 1)
        if self.ranks.first:
            self.journal.log({**record, "train_seconds": round(seconds, 3)})

    def _save(
        self, optimizer: torch.optim.AdamW, scaler: torch.amp.GradScaler, progress: Progress
    ) -> None:
        if not self.ranks.first:
            return
        state = {"model": self.model.state_dict(), "progress": vars(progress).copy()}
        if not self._done(progress):  # a finished run needs no optimiser, twice its weights' size
            state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
        self.journal.save_last(state)

    def _done(self, progress: Progress) -> bool:
        schedule = Schedule(self.config, self.videos)
        return progress.step == self.config.epochs * schedule.steps_per_epoch

    def _restore(self, optimizer: torch.optim.AdamW, scaler: torch.amp.GradScaler) -> Progress:
        state = self.journal.load_last()
        steps = self.ranks.gather(0 if state is None else int(state["progress"]["step"]))
        if len(set(steps)) > 1:
            raise RanksDiffer(
                f"the workers would go on from different steps, {steps} in their order: they do "
                "not see the same checkpoint. The output folder must be the same on every node"
            )
        if state is None:
            return Progress()
        self.model.load_state_dict(state["model"])
        progress = Progress(**state["progress"])
        if not self._done(progress):
            optimizer.load_state_dict(state["optimizer"])
            scaler.load_state_dict(state["scaler"])
        return progress


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Autocast to the run's precision on `device`; disabled in float32.

    Raises ValueError for fp16 off CUDA and for bf16 on a GPU without it.
    """
    if config.precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    if config.precision == "fp16" and device.type != "cuda":
        raise ValueError("train.precision=fp16 needs a CUDA device; use bf16 or fp32 on a CPU")
    if (
        config.precision == "bf16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ValueError("this GPU has no bf16; use --set train.precision=fp16")
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def soft_target_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum over the batch of the cross entropy between `targets` (b, n) and logits (b, n)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(logits, targets.to(logits.dtype), reduction="sum")
