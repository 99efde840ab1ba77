"""A CUDA device without memory: an attempt ends with OutOfMemory, and a smaller batch is next."""

import pytest
import torch

from experiments.errors import OutOfMemory

pytestmark = pytest.mark.gpu
memory = pytest.importorskip(
    "experiments.worker.memory", reason="needs what a sweep needs", exc_type=ImportError
)


def test_out_of_memory_is_detected(device: torch.device) -> None:
    free, total = torch.cuda.mem_get_info(device)
    with (
        pytest.raises(OutOfMemory, match="micro-batch of 4"),
        memory.detect_out_of_memory("micro_batch", 4),
    ):
        torch.empty(2 * total, dtype=torch.uint8, device=device)
