"""The kernels that match on a GPU, run by Triton's interpreter on a CPU.

Triton decides when it is imported whether it interprets: in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tcclip.model.merging import bipartite
from tests.places import ROOT

INTERPRETED = "TRITON_INTERPRET"


def test_the_interpreter_agrees() -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton exists for Linux alone")
    command = [sys.executable, "-c", f"from {__name__} import check; check()"]
    env = {**os.environ, INTERPRETED: "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check() -> None:
    """All that follows, in a process in which Triton interprets."""
    for case in (
        (2, 29, 40, 10, 10),  # odd numbers of tokens
        (1, 69, 8, 60, 9),  # one step, several tiles
        (1, 20, 24, 3, 20),  # half of them at each step
    ):
        as_torch_does(*case)
    many_merged_into_one()
    what_is_no_number_stays_within_bounds()


def tokens(B: int, n: int, D: int) -> torch.Tensor:
    """Seeds have much in common."""
    generator = torch.Generator().manual_seed(n)
    common, own = (torch.randn(B, m, D, generator=generator) for m in (1, n))
    return common + own


def matched(seeds: torch.Tensor, k: int, step: int) -> torch.Tensor:
    from tcclip.model.merging import kernels

    return kernels.matched(seeds, bipartite.merge_steps(seeds.shape[1], k, step))


def in_float64(seeds: torch.Tensor, k: int, step: int) -> torch.Tensor:
    seeds = seeds.double()
    return bipartite.bipartite(seeds, bipartite.merge_tables(seeds.shape[:2], k, step, seeds))


def as_torch_does(B: int, n: int, D: int, k: int, step: int) -> None:
    seeds = tokens(B, n, D)
    assert torch.equal(matched(seeds, k, step), in_float64(seeds, k, step)), (B, n, D, k, step)


def many_merged_into_one() -> None:
    """The even tokens are all the same, so they have the same partner."""
    seeds = tokens(1, 16, 16)
    seeds[:, ::2] = seeds[:, :1].clone()
    found = matched(seeds, 6, 5)
    assert found[0].bincount().max() > 5
    assert torch.equal(found, in_float64(seeds, 6, 5))


def what_is_no_number_stays_within_bounds() -> None:
    seeds = tokens(2, 14, 16)
    seeds[0, 3], seeds[0, 7], seeds[1, ::2] = float("nan"), float("inf"), 0
    found = matched(seeds, 5, 5)
    assert found.min() >= 0
    assert found.max() < 5
