"""The kernels that match on a GPU, run by Triton's interpreter on a CPU.

Triton decides when it is imported whether it interprets: in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tcclip.model.merging import bipartite, gpu
from tests.places import ROOT


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton exists for Linux alone")
def test_the_interpreter_agrees() -> None:
    command = [sys.executable, "-c", f"from {__name__} import check; check()"]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton exists for Linux alone")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION:UserWarning")
def test_they_compile_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a program for one, which no GPU is needed for."""
    import triton
    from triton.backends.compiler import GPUTarget

    from tcclip.model.merging import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = {"LISTED": 128, "COUNT": 1024}
    sizes |= {name: getattr(kernels, name) for name in ("TILE", "DEPTH", "EVEN", "ODD", "CHUNK")}
    numbers = {"n", "D", "r", "evens", "odds", "left", "steps"}
    types = {"found": "*i64"} | dict.fromkeys(("tokens", "gram", "summed", "similarity"), "*fp32")
    names = ("_products", "_find_partners", "_order", "_chain", "_merge", "_follow")
    for kernel in (getattr(kernels, name) for name in names):
        signature = {
            name: "constexpr" if name in sizes
            else "i32" if name in numbers
            else types.get(name, "*i32")
            for name in kernel.arg_names
        }  # fmt: skip
        constants = {name: size for name, size in sizes.items() if name in signature}
        # As they are launched: tensors are aligned, and 928 and 768 are multiples of 16.
        aligned = [
            (at,) for at, (name, of) in enumerate(signature.items())
            if of.startswith("*") or name in ("n", "D")
        ]  # fmt: skip
        attributes = {at: [["tt.divisibility", 16]] for at in aligned}
        source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


def fail(*_: object) -> torch.Tensor:
    raise RuntimeError("no C compiler")


def choose_otherwise(tokens: torch.Tensor, steps: list[int]) -> torch.Tensor:
    return torch.zeros(tokens.shape[:2], dtype=torch.int64)


@pytest.mark.parametrize(
    ("match", "why"), [(fail, "no C compiler"), (choose_otherwise, "choose otherwise")]
)
def test_kernels_that_fail_are_said_once_and_not_used(
    match: object, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operator = pytest.importorskip("tcclip.model.merging.operator", exc_type=ImportError)
    monkeypatch.setattr(operator, "match", match)
    gpu._tried.cache_clear()
    try:
        assert [gpu._tried(torch.device("cpu")) for _ in range(2)] == [None, None]
    finally:
        gpu._tried.cache_clear()
    assert caplog.text.count(why) == 1


def check() -> None:
    """All that follows, in a process in which Triton interprets, in tiles that small cases fill."""
    from tcclip.model.merging import kernels

    kernels.TILE = 16
    for case in (
        (1, 29, 40, 10, 10),  # odd numbers of tokens
        (1, 52, 8, 34, 18),  # one step, several tiles of each kind
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
