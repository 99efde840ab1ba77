"""Runs the product's `Trainer` and `Evaluator` on prepared batches, and looks at single steps.

The batches are uint8 videos as the loader gives them, in pinned memory where it would pin them:
normalising, mixing, copying to the device and the optimiser's step are part of what is timed.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tcclip.config import AugmentConfig, Execution, ModelConfig, TrainConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.loader import Batch, EvalBatch
from tcclip.distributed import Ranks, use_deterministic_algorithms
from tcclip.evaluate import EvalList, Evaluator, Scores
from tcclip.model import Model, create_model
from tcclip.step import autocast
from tcclip.train import Paused, Trainer
from tests.benchmarks.model_bench import class_names

#: Settings of `ModelConfig` for a geometry; one that is not here has the defaults.
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"num_frames": 4, "context_tokens": 6, "merge_step": 8, "prompt_layers": (2,)},
}
Hook = Callable[[], None]


@dataclass
class Clock:
    """Called at every boundary of steps. `hooks`: what to do at the boundary of that number."""

    device: torch.device
    hooks: dict[int, Hook] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)

    def tick(self) -> None:
        hook = self.hooks.get(len(self.times))
        if hook is not None:
            synchronise(self.device)
        self.times.append(time.perf_counter())
        if hook is not None:
            hook()

    def period(self, warm: int) -> float:
        """Median seconds between boundaries from `warm` on, where no hook was called between."""
        times = self.times[warm:]
        return statistics.median(
            end - begin
            for at, (begin, end) in enumerate(pairwise(times), start=warm)
            if at not in self.hooks
        )


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Steps:
    """The trainer's recorder: ticks after every step, pauses after `count` of them or `seconds`.

    Nothing is saved.
    """

    clock: Clock
    count: int
    seconds: float = float("inf")
    losses: list[float] = field(default_factory=list)

    def log(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "start":
            self.began = time.perf_counter()
        elif record["kind"] == "step":
            self.losses.append(record["loss"])
            self.clock.tick()

    def interrupted(self) -> bool:
        late = time.perf_counter() - self.began > self.seconds
        return len(self.losses) >= self.count or late

    def save_last(self, *_: Any, **__: Any) -> None: ...

    def load_last(self, check: object) -> None:
        return None


@dataclass
class PreparedTraining:
    """In the loader's place: the same few chunks again and again."""

    chunks: list[Batch]
    waited: float = 0.0

    @property
    def chunk_size(self) -> int:
        return len(self.chunks[0].labels)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        while True:
            yield from self.chunks


@dataclass(frozen=True)
class Bench:
    """A device and a geometry, and everything of the product that is driven on it."""

    device: torch.device
    geometry: str = "ViT-B-16"

    @property
    def on_gpu(self) -> bool:
        """Else the program is only tried, with few steps of everything."""
        return self.device.type == "cuda"

    @property
    def warm(self) -> int:
        """Steps before any that is timed."""
        return 3 if self.on_gpu else 1

    @property
    def timed(self) -> int:
        """Steps that are timed, or segments of batches."""
        return 5 if self.on_gpu else 1

    @property
    def segment(self) -> int:
        """Batches between two looks at the clock in evaluation."""
        return 4 if self.on_gpu else 1

    @cached_property
    def config(self) -> ModelConfig:
        """What the models share."""
        return ModelConfig(backbone=self.geometry, **SETTINGS.get(self.geometry, {}))

    @cached_property
    def augment(self) -> AugmentConfig:
        size = self.config.sizes.image_size
        return AugmentConfig(crop=size, resize=size * 8 // 7, reader="pyav")

    @cached_property
    def ranks(self) -> Ranks:
        return Ranks(0, 1, self.device)

    @cached_property
    def _models(self) -> dict[tuple[Any, ...], Model]:
        return {}

    def model(self, name: str, classes: int = 51, length: int = 30) -> Model:
        """A fresh copy on the device; random weights, class names as long as the real lists'."""
        key = (name, classes, length)
        if key not in self._models:
            self._models[key] = create_model(
                name, class_names(classes, length), backbone=self.geometry, text_length=length,
                **SETTINGS.get(self.geometry, {}),
            )  # fmt: skip
        return copy.deepcopy(self._models[key]).to(self.device)

    def execution(self, **settings: Any) -> Execution:
        return Execution(device=self.device.type, **settings)

    def train_config(
        self, global_batch: int, *, rate: float = 1e-6, precision: str = "bf16"
    ) -> TrainConfig:
        return TrainConfig(
            epochs=1, warmup_epochs=0, lr=rate, lr_min=rate / 100, global_batch=global_batch,
            precision=precision,
        )  # fmt: skip

    def videos(self, *shape: int, seed: int = 0) -> torch.Tensor:
        """uint8 videos (*shape, T, 3, S, S) of noise, pinned if they go to a GPU."""
        frames, size = self.config.num_frames, self.config.sizes.image_size
        generator = torch.Generator().manual_seed(seed)
        video = torch.randint(
            0, 256, (*shape, frames, 3, size, size), dtype=torch.uint8,
            generator=generator,
        )  # fmt: skip
        return video.pin_memory() if self.on_gpu else video

    # ---- Training ----

    def train(
        self,
        model: Model,
        execution: Execution,
        steps: Steps,
        *,
        global_batch: int,
        precision: str = "bf16",
        rate: float = 1e-6,
        loader: Any = None,
    ) -> Trainer:
        """Train `model` until `steps` pauses it; by default on prepared batches."""
        config = self.train_config(global_batch, rate=rate, precision=precision)
        chunk = execution.chunk_size(config)
        if loader is None:
            loader = PreparedTraining(
                [self._chunk(model, chunk, number) for number in range(global_batch // chunk)]
            )
        trainer = Trainer(
            model=model, loader=loader, config=config, augment=self.augment, execution=execution,
            ranks=self.ranks, seed=0, videos=global_batch * 10_000,
            validate=lambda *_: {"top1": 0.0, "top5": 0.0}, recorder=steps,
        )  # fmt: skip
        with suppress(Paused):
            trainer.fit()
        return trainer

    def _chunk(self, model: Model, size: int, number: int) -> Batch:
        indices = torch.arange(size) + number * size
        labels = indices % len(model.class_names)
        labels = labels.pin_memory() if self.on_gpu else labels
        return Batch(self.videos(size, seed=number), labels, indices, [])

    # ---- Evaluation ----

    def evaluate(
        self,
        model: Model,
        execution: Execution,
        clock: Clock,
        *,
        batches: int,
        precision: str = "bf16",
    ) -> Scores:
        """Score `batches` batches of `eval_batch` one-view videos; a tick every `segment`."""
        size = execution.eval_batch
        made = [self.videos(size, 1, seed=seed) for seed in range(2)]

        def loader(*_: Any) -> Iterator[EvalBatch]:
            for number in range(batches):
                if number % self.segment == 0:
                    synchronise(self.device)
                    clock.tick()
                indices = torch.arange(size) + number * size
                yield EvalBatch(made[number % 2], indices % 51, indices, {}, {})
            synchronise(self.device)
            clock.tick()

        items = tuple(Item(f"{i}.mp4", i % 51) for i in range(batches * size))
        one = EvalList("bench", "bench", "test", items, model.class_names, Views())
        config = self.train_config(4, precision=precision)
        evaluator = Evaluator(
            loader=loader, augment=self.augment, ranks=self.ranks,
            autocast=lambda: autocast(config.precision, self.device),
            compile=execution.compiles(self.device.type, 0),
        )  # fmt: skip
        return evaluator.evaluate({"model": model}, [one])["model", 0]

    # ---- Counting, by torch's counter, which sees eager operators alone ----

    @cached_property
    def _flops(self) -> dict[tuple[Any, ...], int]:
        return {}

    def training_flops(
        self, name: str, micro_batch: int, total: int, classes: int = 51, length: int = 30
    ) -> int:
        """Of an optimiser step on `total` videos."""
        key = ("train", name, micro_batch, total, classes, length)
        if key not in self._flops:
            execution = self.execution(micro_batch=micro_batch, compile=False)
            steps = Steps(Clock(self.device), 1)
            model = self.model(name, classes, length)
            with FlopCounterMode(display=False) as counter:
                self.train(model, execution, steps, global_batch=total)
            self._flops[key] = counter.get_total_flops()
        return self._flops[key]

    def evaluation_flops(self, name: str, batch: int, views: int) -> int:
        """Of a batch of `views`, all at once; not of the class list, which is encoded once."""
        assert views == batch
        key = ("evaluate", name, batch)
        if key not in self._flops:
            execution = self.execution(eval_batch=batch, compile=False)
            counts = []
            for batches in (1, 2):
                with FlopCounterMode(display=False) as counter:
                    clock = Clock(self.device)
                    self.evaluate(self.model(name), execution, clock, batches=batches)
                counts.append(counter.get_total_flops())
            self._flops[key] = counts[1] - counts[0]
        return self._flops[key]


@contextmanager
def determinism(on: bool) -> Iterator[None]:
    """Deterministic algorithms, or not, while it lasts."""
    use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
