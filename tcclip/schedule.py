"""Learning rates and parameter groups (SPEC 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from tcclip.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """Warm-up cosine over loader iterations of the published set-up.

    Time is counted in iterations of `schedule_batch` videos (4 GPUs x 4), whatever the
    hardware, so that the rate at every optimiser step is a function of the protocol alone. A
    global batch that is smaller is one iteration: the first one ends at 0, never before.
    """

    config: TrainConfig
    videos: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch; the last incomplete batch is dropped."""
        return self.videos // self.config.global_batch

    def rate(self, step: int, base: float) -> float:
        """The rate of optimiser step `step` (0-based) of a group whose full rate is `base`.

        Quirk: the published loop sets the rate after each optimiser step, with that step's
        iteration number, so step j runs at t of step j - 1 and the first step runs at 0.
        """
        if step == 0:
            return 0.0
        config = self.config
        batch = min(config.schedule_batch, config.global_batch)
        iterations_per_epoch = self.videos // batch  # S of SPEC 4
        accumulation = config.global_batch / batch
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        iteration = epoch * iterations_per_epoch + (within + 1) * accumulation - 1
        warmup = config.warmup_epochs * iterations_per_epoch
        if iteration < warmup:
            return base * iteration / warmup
        total = config.epochs * iterations_per_epoch
        cosine = 1 + math.cos(math.pi * iteration / total)
        return config.lr_min + (base - config.lr_min) / 2 * cosine


class _Uncompiled(AdamW):
    """AdamW without what its methods are wrapped in for torch.compile, which no step goes through:
    torch._dynamo would be imported, 2 to 4 seconds of a core in every worker."""

    step = torch.no_grad()(unwrap(AdamW.step))
    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


def build_optimizer(
    model: nn.Module, rate_scales: Mapping[str, float], config: TrainConfig
) -> AdamW:
    """AdamW over every trained parameter: a group for each of `rate_scales`, beginnings of names,
    with what the learning rate is multiplied by there, after the group of all others.

    Quirk: weight decay also applies to biases and norms. Each group carries its full rate as
    `base_lr`; `set_rates` sets the present rate before every step.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    others = [p for name, p in named if not name.startswith(tuple(rate_scales))]
    groups = [{"params": others, "base_lr": config.lr, "lr": 0.0}]
    for beginning, scale in rate_scales.items():
        own = [p for name, p in named if name.startswith(beginning)]
        if own:
            groups.append({"params": own, "base_lr": config.lr * scale, "lr": 0.0})
    return _Uncompiled(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay,
        fused=named[0][1].is_cuda or None,
    )  # fmt: skip


def load_optimizer(optimizer: AdamW, state: dict[str, Any]) -> None:
    """Load the saved `state` of an optimiser, of another kind of device too."""
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved["fused"] = own["fused"]  # else the saved one would replace it
    optimizer.load_state_dict(state)


def set_rates(optimizer: AdamW, schedule: Schedule, step: int) -> None:
    """Put the rates of optimiser step `step` into the optimiser's groups."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step, group["base_lr"])
