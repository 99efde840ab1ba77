"""The device; where torch finds none, every test is skipped."""

import os

import pytest
import torch

from tests.benchmarks.gpu_bench.drive import Bench

# Deterministic cuBLAS reads it when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def tiny(device: torch.device) -> Bench:
    """The smallest geometry on the device."""
    return Bench(device, "tiny")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure at once: a card's time may be over before pytest's summary."""
    if report.failed and report.nodeid.startswith("tests/gpu/"):
        print(f"\n{report.nodeid}\n{report.longreprtext}", flush=True)
