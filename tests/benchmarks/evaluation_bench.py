"""One-pass evaluation against evaluating list by list and weight set by weight set.

    python -m tests.benchmarks.evaluation_bench

Moving shapes, the tiny model, one thread: three lists of 64 unseen videos and the list of all 192,
raw and ensembled weights. Counts videos decoded, and prints the ratio of wall clock.
"""

import tempfile
import time
from pathlib import Path

import torch

from experiments.datasets.paths import DataPaths, cache_folder
from experiments.grid.plan import Grid, expand
from experiments.worker.data import RunData
from experiments.worker.job import Job
from tcclip.config import Execution
from tcclip.distributed import current_ranks
from tcclip.evaluate import EvalList, Evaluator, group_lists
from tcclip.model import Model, build_model
from tcclip.step import autocast

REPEATS = 3


def _setting() -> tuple[Evaluator, dict[str, Model], list[EvalList]]:
    zero_shot, to_novel = (
        expand(Grid(name, demo=True, models=("tc_clip",), seeds=(0,)))[0]
        for name in ("zero_shot", "base_to_novel")
    )
    ranks, data_paths = current_ranks("cpu"), DataPaths(cache=cache_folder())
    out = Path(tempfile.gettempdir())
    execution = Execution(device="cpu", eval_batch=32)
    data, novel = (
        RunData.load(
            Job(spec=spec, out=out, data_paths=data_paths, execution=execution, owner="benchmark"),
            ranks,
        )
        for spec in (zero_shot, to_novel)
    )
    models = {
        name: build_model(zero_shot.model, data.train.class_names, clip_weights="random", seed=seed)
        for seed, name in enumerate(("raw", "ensembled"))
    }
    evaluator = Evaluator(
        data.eval_loader,
        zero_shot.augment,
        ranks,
        lambda: autocast(zero_shot.train.precision, ranks.device),
    )
    return evaluator, models, [*data.suites, novel.suites[1]]


def _seconds(work: object) -> float:
    assert callable(work)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[REPEATS // 2]


def main() -> None:
    torch.set_num_threads(1)
    evaluator, models, lists = _setting()

    def together() -> None:
        evaluator.evaluate(models, lists)

    def apart() -> None:
        for name, model in models.items():
            for one in lists:
                evaluator.evaluate({name: model}, [one])

    together()  # videos made, decoder started
    once = sum(len(group.items) for group in group_lists(lists))
    each = len(models) * sum(len(one.items) for one in lists)
    one_pass, separate = _seconds(together), _seconds(apart)
    print(f"videos decoded: {once} in one pass, {each} apart: {each / once:.2f} times fewer")
    print(f"wall clock, median of {REPEATS}: {one_pass:.2f} s and {separate:.2f} s: "
          f"{separate / one_pass:.2f} times faster")  # fmt: skip


if __name__ == "__main__":
    main()
