"""A GPU that fails is named, and its run tried again."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.errors import OutOfMemory, gpu_errors
from experiments.scheduler import loop
from experiments.scheduler.circuit_breaker import signature
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.summary import summary_lines
from experiments.store.ledger import Ledger
from experiments.worker.run import gpu_name
from tests.experiments.scheduler.scripted import Scripted, grid, run

#: How a worker names its GPU.
GPU = "GPU 3, NVIDIA H100, GPU-1a2b, of node7"


def _cuda_error(text: str) -> AttemptError:
    """How an attempt ends that CUDA ends with `text`."""
    with (
        pytest.raises(RuntimeError) as raised,
        gpu_errors(GPU),
    ):
        raise RuntimeError(f"CUDA error: {text}\nCUDA kernel errors might be reported later")
    return AttemptError.of(pickle.loads(pickle.dumps(raised.value)))


@pytest.mark.parametrize(
    "text",
    [
        "an illegal memory access was encountered",
        "uncorrectable ECC error encountered",
        "uncorrectable NVLink error detected during the execution",
        "GPU is lost",
    ],
)
def test_a_gpu_that_fails_is_named_and_the_run_tried_again(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.0)
    specs, end = grid(2), _cuda_error(text)
    summary = run(specs, tmp_path, Scripted(tc_clip1=[end, end]))
    assert summary.exit_code == 0
    (line,) = summary_lines(summary, tmp_path, [])
    assert line.startswith(f"{GPU}: failed under 2 attempts; look at nvidia-smi")
    log = Ledger(tmp_path).folder(specs[1].run_id).log.read_text()
    assert f"BrokenGpu: CUDA error: {text} (on {GPU})" in log
    # Which GPU it was makes no error another one: three of them may be the code's fault.
    assert signature("x", end.message) == signature("x", end.message.replace("GPU-1a2b", "GPU-9f"))


def test_an_error_of_the_code_is_none_of_its_gpu() -> None:
    assert _cuda_error("device-side assert triggered").gpu is None
    with pytest.raises(RuntimeError, match=r"^an illegal memory access$"), gpu_errors(None):
        raise RuntimeError("an illegal memory access")
    with pytest.raises(OutOfMemory), gpu_errors("GPU 0"):
        raise OutOfMemory("no memory for the ECC of a page")


def test_a_worker_names_its_gpu_as_nvidia_smi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA H100", uuid="1a2b")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: properties)
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    assert gpu_name(torch.device("cpu")) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_name(torch.device("cuda", 3)) == GPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")  # as Ray gives two workers on one node
    assert gpu_name(torch.device("cuda", 1)) == GPU
