"""`--search train.lr=loguniform(1e-7,1e-5)`: trials of a search as rows of a grid.

The trials are drawn here, from a fixed seed, so that the same command gives the same trials and
continues them; Ray Tune's ASHA decides which of them are worth finishing.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from experiments.errors import UserError

_CALL = re.compile(r"(\w+)\((.*)\)")
#: Larger numbers cannot be drawn.
_LARGEST = 2**63 - 1
#: One searched setting: its dotted name, and what draws a value from a NumPy generator.
Search = tuple[str, Callable[[Any], Any]]


def _rounded(value: float) -> float:
    """Three significant digits: what a table shows is what was run."""
    return float(f"{value:.3g}")


#: How each distribution draws a value, from a NumPy generator and its arguments.
_DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "uniform": lambda rng, low, high: _rounded(rng.uniform(low, high)),
    "loguniform": lambda rng, low, high: _rounded(
        math.exp(rng.uniform(math.log(low), math.log(high)))
    ),
    "randint": lambda rng, low, high: int(rng.integers(low, high + 1)),
    "choice": lambda rng, *values: values[int(rng.integers(len(values)))],
}


def parse(text: str) -> Search:
    """`train.lr=loguniform(1e-7,1e-5)`; UserError saying what can be written.

    randint includes both ends; uniform and loguniform need low < high, loguniform low > 0.
    """
    name, _, value = text.partition("=")
    match = _CALL.fullmatch(value.strip())
    if not name or match is None or match[1] not in _DISTRIBUTIONS:
        raise UserError(
            f"--search {text!r}: write NAME=DISTRIBUTION(...), one of uniform(LOW,HIGH), "
            "loguniform(LOW,HIGH), randint(LOW,HIGH), choice(A,B,...)"
        )
    try:
        arguments = ast.literal_eval(f"({match[2]},)")
        json.dumps(arguments)  # no sets, no bytes
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(
            f"--search {text!r:.200}: {match[2]!r:.200} are not plain values"
        ) from error
    if match[1] != "choice" and not _is_range(arguments, match[1]):
        whole = " whole" if match[1] == "randint" else ""
        raise UserError(f"--search {text!r}: {match[1]} needs two{whole} numbers, LOW < HIGH")
    distribution = _DISTRIBUTIONS[match[1]]
    return name.strip(), lambda rng: distribution(rng, *arguments)


def _is_range(arguments: tuple[Any, ...], distribution: str) -> bool:
    kind = int if distribution == "randint" else int | float
    # True is an int to Python.
    if len(arguments) != 2 or not all(isinstance(one, kind) for one in arguments):
        return False
    if any(isinstance(one, bool) or abs(one) >= _LARGEST for one in arguments):
        return False
    low, high = arguments
    return bool(low < high) and (distribution != "loguniform" or low > 0)


def trials(searches: Sequence[Search], samples: int) -> tuple[dict[str, Any], ...]:
    """`samples` rows of settings; more samples add rows and change none."""
    import numpy as np  # takes a while to import, and only searches need it

    generators = (np.random.default_rng([0, number]) for number in range(samples))
    return tuple({name: draw(rng) for name, draw in searches} for rng in generators)
