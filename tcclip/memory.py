"""The largest micro-batch whose training fits on a GPU, found with a few steps on dummy videos.

Memory grows linearly with the videos of a micro-batch, so a measured size tells how far the next
may go. Sizes are tried from the smallest on: other runs may share the GPU, and must not lose
their memory to a size that was tried in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from tcclip import methods
from tcclip.config import AugmentConfig, Execution, TrainConfig
from tcclip.data.loader import Batch
from tcclip.distributed import Ranks
from tcclip.model import Model
from tcclip.step import StepGradient

#: Larger micro-batches are not looked for. 64 videos of 16 frames are 200,000 tokens: far more than
#: a GPU needs to be busy, and more would only make the loader's batches larger.
LARGEST_MICRO_BATCH = 64
#: Part of the memory that may be planned with. The rest is for the allocator's fragments, for
#: libraries that allocate by themselves, and for what compiled code keeps.
USABLE = 0.9


def available_memory(device: torch.device, share: float) -> int:
    """GiB, rounded down, that this process could use of the GPU, if it may use `share` of it.

    What the process has allocated counts as available, what others have does not.
    """
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device)
    return int(min(free + own, share * total)) // 2**30


def memory_limit(model: Model, available: int) -> int:
    """Bytes that a step's gradient may take of `available` GiB.

    Two moments of each parameter are kept free for AdamW, and its average where the method has one.
    Evaluation needs nothing beside: a step's memory is free by then.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    kept = 3 if methods.get(model.config.name).averages(model.config) else 2
    return int(USABLE * available * 2**30) - kept * trained


def largest_that_fits(sizes: Sequence[int], limit: int, peak: Callable[[int], int | None]) -> int:
    """The largest of `sizes`, which ascend, whose `peak` is at most `limit`; else the smallest.

    `peak(size)`: bytes, None if memory ran out. Called with ascending sizes, each at most twice the
    last if there is one, and only if the two before let expect that it fits.
    """
    measured: list[tuple[int, int]] = []
    size: int | None = sizes[0]
    while size is not None:
        used = peak(size)
        if used is None or used > limit:
            break
        measured.append((size, used))
        larger = [one for one in sizes if one > size and _expected(measured, one) <= limit]
        size = max((one for one in larger if one <= 2 * size), default=min(larger, default=None))
    return measured[-1][0] if measured else sizes[0]


def _expected(measured: Sequence[tuple[int, int]], size: int) -> float:
    """Bytes of `size` on the line through the last two measured sizes; 0 before there are two."""
    if len(measured) < 2:
        return 0.0
    (small, less), (large, more) = measured[-2:]
    return more + (more - less) / (large - small) * (size - large)


@contextmanager
def undisturbed(model: Model, device: torch.device) -> Iterator[None]:
    """Let the block rehearse; then no gradient is left, and random states are as they were."""
    training = model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            model.train()
            yield
        finally:
            model.train(training)
            model.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()


def training_peak(
    model: Model, size: int, train: TrainConfig, augment: AugmentConfig, device: torch.device
) -> int:
    """The most bytes allocated on the GPU `device` in forward and backward of `size` videos."""
    torch.cuda.reset_peak_memory_stats(device)
    rehearse(model, size, train, augment, device)
    return torch.cuda.max_memory_allocated(device)


def rehearse(
    model: Model, size: int, train: TrainConfig, augment: AugmentConfig, device: torch.device
) -> None:
    """The gradient of two micro-batches of `size` black videos, as in training; leaves it.

    Never compiled: that would take minutes, and compiled code needs about the same memory.
    """
    model.zero_grad(set_to_none=True)
    pixels, chunk = model.config.sizes.image_size, max(size, train.mix.group)
    shape = (chunk, model.config.num_frames, 3, pixels, pixels)
    labels = torch.zeros(chunk, dtype=torch.int64)
    batch = Batch(torch.zeros(shape, dtype=torch.uint8), labels, torch.arange(chunk), [])
    gradient = StepGradient(
        model, train, augment, Execution(micro_batch=size), Ranks(0, 1, device),
        torch.amp.GradScaler(device.type, enabled=False), seed=0,
    )  # fmt: skip
    gradient([batch, batch], epoch=0, step=0)
