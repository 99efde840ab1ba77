"""A training state on CUDA is copied to the host while the GPU is still at work on it."""

import pytest
import torch

from experiments.worker.checkpoints import on_host

pytestmark = pytest.mark.gpu


def test_a_state_is_copied_as_it_was(device: torch.device) -> None:
    weight = torch.zeros(4096, 4096, device=device)
    for _ in range(200):  # queued when it is copied
        weight += 1
    state = {
        "model": {"weight": weight},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0, device=device), "lr": 0.5}},
            "param_groups": [{"params": [0], "betas": (0.9, 0.98)}],
        },
    }
    copy = on_host(state)
    weight.zero_()
    torch.cuda.synchronize()
    kept, step = copy["model"]["weight"], copy["optimizer"]["state"][0]["step"]
    assert kept.device.type == step.device.type == "cpu"
    assert kept.is_pinned()
    assert (kept == 200).all()
    assert step == 3.0
    assert copy["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
