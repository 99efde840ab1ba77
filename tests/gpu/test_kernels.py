"""The kernels that match on a GPU choose as float64 on a CPU does."""

import pytest
import torch

from tcclip.model.merging.bipartite import bipartite, merge_steps, merge_tables
from tcclip.model.merging.gpu import kernel_match
from tests.tcclip.model.test_kernels import tokens

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("B", "n", "D", "k", "step"), [(4, 928, 768, 96, 100), (3, 57, 40, 9, 10), (5, 300, 64, 20, 60)]
)
def test_matching(device: torch.device, B: int, n: int, D: int, k: int, step: int) -> None:
    seeds = tokens(B, n, D)
    match = kernel_match(seeds.to(device), n, merge_steps(n, k, step))
    assert match is not None
    found = match.run(seeds.to(device), match.steps)
    exact = seeds.double()
    assert torch.equal(found.cpu(), bipartite(exact, merge_tables((B, n), k, step, exact)))
    assert torch.equal(found, match.run(seeds.to(device), match.steps))


def test_tokens_that_are_no_numbers(device: torch.device) -> None:
    seeds = tokens(2, 928, 64).to(device)
    seeds[0, 3], seeds[0, 7], seeds[1, ::2] = float("nan"), float("inf"), 0
    match = kernel_match(seeds, 928, merge_steps(928, 96, 100))
    assert match is not None
    found = match.run(seeds, match.steps)
    assert found.min() >= 0
    assert found.max() < 96
