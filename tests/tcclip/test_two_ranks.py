"""Two ranks train as one: the same global batches, mixing groups and steps (SPEC 3, 4)."""

import socket
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from experiments.datasets.paths import DataPaths
from experiments.worker.data import RunData
from experiments.worker.job import Job
from tcclip.config import Execution
from tcclip.distributed import current_ranks
from tcclip.model import build_model
from tcclip.train import Trainer
from tests.experiments.sweeping import fork, small_specs
from tests.tcclip.test_resume import Disk

#: Three global batches.
VIDEOS = 96


def train(cache: Path, workers: int, micro_batch: int) -> tuple[list[float], torch.Tensor]:
    """One epoch in float64, mixing on; (losses, all weights as one vector)."""
    torch.set_num_threads(1)
    mixing = {"train.mix.probability": 1.0, "train.epochs": 1, "model.prompt_stop_grad": False}
    (spec,) = small_specs(**{name.replace(".", "__"): value for name, value in mixing.items()})
    execution = Execution(workers=workers, micro_batch=micro_batch, device="cpu")
    job = Job(
        spec=spec, out=cache, data_paths=DataPaths(cache=cache), execution=execution, owner="test"
    )
    ranks = current_ranks("cpu")
    data = RunData.load(job, ranks)
    data = replace(data, train=replace(data.train, items=data.train.items[:VIDEOS]))
    model = build_model(spec.model, data.train.class_names, clip_weights="random", seed=0).double()
    disk = Disk()
    Trainer(
        model=model, loader=data.train_loader(), config=spec.train, augment=spec.augment,
        execution=execution, ranks=ranks, seed=0, videos=len(data.train.items),
        validate=lambda model, epoch: {"top1": 0.0}, recorder=disk,
    ).fit()  # fmt: skip
    return list(disk.losses.values()), torch.cat([p.detach().flatten() for p in model.parameters()])


def _rank(rank: int, port: int, cache: Path, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    losses, weights = train(cache, workers=2, micro_batch=8)
    results.put((rank, losses, weights.numpy()))  # a tensor would need this process to stay
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def one_rank(cache: Path) -> tuple[list[float], torch.Tensor]:
    return train(cache, workers=1, micro_batch=32)


def test_two_ranks_train_as_one(one_rank: tuple[list[float], torch.Tensor], cache: Path) -> None:
    results = get_context("fork").Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [fork(_rank, r, port, cache, results) for r in range(2)]
    by_rank = {rank: (losses, weights) for rank, losses, weights in (results.get() for _ in ranks)}
    for process in ranks:
        process.join()
    losses, weights = one_rank
    assert len(losses) == 3
    assert by_rank[0][0] == pytest.approx(losses, rel=1e-9)
    assert by_rank[1][0] == [], "only the first rank writes"
    assert (by_rank[0][1] == by_rank[1][1]).all()
    torch.testing.assert_close(torch.from_numpy(by_rank[0][1]), weights, rtol=1e-6, atol=1e-9)


def test_micro_batches_smaller_than_a_mixing_group_change_nothing(
    one_rank: tuple[list[float], torch.Tensor], cache: Path
) -> None:
    losses, weights = train(cache, workers=1, micro_batch=2)
    assert losses == pytest.approx(one_rank[0], rel=1e-9)
    torch.testing.assert_close(weights, one_rank[1], rtol=1e-6, atol=1e-9)
