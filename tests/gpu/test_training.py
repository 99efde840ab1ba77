"""Training and testing on CUDA: compiled, repeated, and what its steps are made of."""

import pytest
import torch

from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps
from tests.benchmarks.gpu_bench.numbers import again
from tests.benchmarks.gpu_bench.profiles import Look

# Torch's releases warn of different things.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


def losses(bench: Bench, compile: bool) -> list[float]:
    """Of a few steps in float64, at a rate that moves the weights.

    Rounding may change which patches are chosen, and then everything after it (SPEC 9).
    """
    steps = Steps(Clock(bench.device), 4)
    execution = bench.execution(micro_batch=4, compile=compile)
    model = bench.model("tc_clip").double()
    bench.train(model, execution, steps, global_batch=8, precision="fp32", rate=1e-3)
    return steps.losses


def test_compiled_training_is_eager_training(tiny: Bench, caplog: pytest.LogCaptureFixture) -> None:
    eager = losses(tiny, compile=False)
    assert len(set(eager)) == len(eager)
    assert losses(tiny, compile=True) == pytest.approx(eager, rel=1e-8)
    assert "torch.compile failed" not in caplog.text


def test_compiled_scores_are_eager_scores(tiny: Bench, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.model("tc_clip").double()
    eager, compiled = (
        tiny.evaluate(
            model, tiny.execution(eval_batch=4, compile=on), Clock(tiny.device), batches=2,
            precision="fp32",
        ).values
        for on in (False, True)
    )  # fmt: skip
    # Probabilities, kept in float32.
    assert compiled == pytest.approx(eager, abs=1e-6)
    assert "slower" not in caplog.text


@pytest.mark.parametrize("compile", [False, True])
def test_deterministic_runs_are_equal_to_the_bit(tiny: Bench, compile: bool) -> None:
    row = again(tiny, deterministic=True, compile=compile)
    assert row["losses_equal"] and row["weights_equal"], row["different"]


@pytest.fixture(scope="module")
def step(device: torch.device) -> Look:
    """A look into one eager step of the full geometry, two micro-batches of 4."""
    bench, look = Bench(device), Look(device)
    steps = Steps(Clock(device, look.hooks(bench.warm)), bench.warm + 4)
    execution = bench.execution(micro_batch=4, compile=False)
    bench.train(bench.model("tc_clip"), execution, steps, global_batch=8)
    return look


def test_the_host_waits_for_the_loss_alone(step: Look) -> None:
    assert sum(step.waits.values()) <= 1, step.waits


def test_nothing_but_targets_is_scattered(step: Look) -> None:
    """The soft targets of a chunk, of which this step has two."""
    counts = {event.key: event.count for event in step.events}
    assert sum(n for name, n in counts.items() if name.startswith("aten::scatter")) == 2
    assert not [name for name in counts if name.startswith("aten::index_put")]


def test_attention_is_fused(step: Look) -> None:
    row = step.row()
    assert row["attention_kernels"], "no fused attention ran"
    assert "attention_math" not in row["attention_calls"]
