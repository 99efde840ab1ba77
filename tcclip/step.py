"""The gradient of one optimiser step: the mean over its global batch (SPEC 4).

A rank goes through its videos in micro-batches. The class names are encoded once a step: the
micro-batches' gradients with respect to the class features add up, and go through the text tower
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcclip import methods
from tcclip.config import AugmentConfig, Execution, Precision, TrainConfig
from tcclip.data.loader import Batch
from tcclip.data.mixing import mix
from tcclip.data.transforms import normalise
from tcclip.distributed import Ranks
from tcclip.interpolation.weights import Interpolation
from tcclip.model import Model
from tcclip.model.layers import full_precision


@dataclass
class StepGradient:
    """Computes a step's gradient into the `.grad` of the model's parameters.

    These are parts of one tensor: averaging over the ranks is one collective call.
    """

    model: Model
    config: TrainConfig
    augment: AugmentConfig
    execution: Execution
    ranks: Ranks
    scaler: torch.amp.GradScaler
    seed: int
    #: The weights the training began with, under our names, for methods that go back to them; by
    #: default the model's present ones.
    start: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        method = methods.get(self.model.config.name)
        self._gradients_at = method.gradients_at
        # Copied to the device only where it is asked for.
        self._interpolation: Interpolation | None = None
        if any(share for share, _ in self._gradients_at(self.model.config, self.seed, 0)):
            self._interpolation = Interpolation(
                self.model, self.model.state_dict() if self.start is None else self.start
            )
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # Every part starts at a multiple of 16 elements, as kernels that read several at once need.
        sizes = [-(-p.numel() // 16) * 16 for p in trained]
        self._gradients = torch.zeros(sum(sizes), dtype=trained[0].dtype, device=self.ranks.device)
        parts = zip(trained, self._gradients.split(sizes), strict=True)
        self._parts = [(p, part[: p.numel()].view_as(p)) for p, part in parts]

    def __call__(self, chunks: Sequence[Batch], epoch: int, step: int) -> tuple[float, int]:
        """The gradient, scaled by the scaler, of this rank's `chunks` and the other ranks'.

        Returns the mean loss (with what a method adds to it) and the replaced clips, of all ranks.
        Reading them is the only time that the host waits for the device.
        """
        for parameter, part in self._parts:
            parameter.grad = part
        # float64: the loss is a sum of many; a count of clips is exact.
        totals = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)
        try:
            loss = self._sum(chunks, epoch, step)
        except RuntimeError as error:
            # Backward passes are compiled when they are first run.
            compiler = self.model.vision.compiler
            if compiler is None or not compiler.give_up(error):
                raise
            loss = self._sum(chunks, epoch, step)
        totals[0] += loss / self.ranks.world
        totals[1] += sum(len(batch.replaced) for batch in chunks)
        self.ranks.sum(self._gradients).div_(self.ranks.world)
        mean, replaced = self.ranks.sum(totals).cpu().tolist()
        return mean, int(replaced)

    def _sum(self, chunks: Sequence[Batch], epoch: int, step: int) -> Tensor:
        """The gradients wherever the method takes them, each with its factor, and the losses."""
        self._gradients.zero_()
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        for share, factor in self._gradients_at(self.model.config, self.seed, step):
            with nullcontext() if self._interpolation is None else self._interpolation.at(share):
                total += self._backward(chunks, epoch, step, factor)
        return total

    def _backward(
        self, chunks: Sequence[Batch], epoch: int, step: int, factor: float = 1.0
    ) -> Tensor:
        """Add the gradients of `chunks` times `factor`; this rank's mean loss times it, float64."""
        micro_batch = self.execution.micro_batch_size(self.config)
        share = self.config.global_batch // self.ranks.world / factor
        precision = autocast(self.config.precision, self.ranks.device)
        with precision:
            classes = self.model.encode_classes()
        shared = classes.detached()
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        for batch in chunks:
            video, targets = self._mix(batch, epoch, step)
            for clip, target in zip(
                video.split(micro_batch), targets.split(micro_batch), strict=True
            ):
                with precision:
                    logits = self.model.score(self.model.encode_video(clip), shared)
                loss = soft_target_loss(logits, target) / share
                self.scaler.scale(loss).backward()
                total += loss.detach().double()
        classes.backward(shared)
        return total

    def _mix(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """The batch's videos and soft targets, augmented, normalised and mixed, on the device."""
        device = self.ranks.device
        video = batch.video.to(device, non_blocking=True)
        if batch.augmentation is not None:
            video = batch.augmentation.to(device).apply(video)
        return mix(
            normalise(video, self.augment).to(self.model.logit_scale.dtype),
            batch.labels.to(device, non_blocking=True),
            batch.indices,
            n_classes=len(self.model.class_names),
            config=self.config.mix,
            seed=self.seed,
            epoch=epoch,
            step=step,
        )


def soft_target_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over the batch of the cross entropy between `targets` (b, n) and logits (b, n)."""
    logits = full_precision(logits)
    return nn.functional.cross_entropy(logits, targets.to(logits.dtype), reduction="sum")


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Autocast to `precision` on `device`; disabled in float32.

    Raises ValueError for fp16 off CUDA and for bf16 on a GPU without it.
    """
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    if precision == "fp16" and device.type != "cuda":
        raise ValueError("train.precision=fp16 needs a CUDA device; use bf16 or fp32 on a CPU")
    if precision == "fp16":
        return torch.autocast(device.type, dtype=torch.float16)
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError("this GPU has no bf16; use --set train.precision=fp16")
    return torch.autocast(device.type, dtype=torch.bfloat16)
