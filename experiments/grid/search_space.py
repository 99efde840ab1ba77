"""`--search train.lr=loguniform(1e-7,1e-5)`: trials of a search as rows of a grid.

The trials are drawn here, from a fixed seed, so that the same command gives the same trials and
continues them; Ray Tune's ASHA decides which of them are worth finishing.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_CALL = re.compile(r"(\w+)\((.*)\)")
#: Significant digits of a drawn number: what a table shows is what was run.
_DIGITS = 3


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


#: How each distribution draws a value, from a NumPy generator and its arguments.
_DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "uniform": lambda rng, low, high: _rounded(rng.uniform(low, high)),
    "loguniform": lambda rng, low, high: _rounded(
        math.exp(rng.uniform(math.log(low), math.log(high)))
    ),
    "randint": lambda rng, low, high: int(rng.integers(low, high + 1)),
    "choice": lambda rng, *values: values[int(rng.integers(len(values)))],
}


@dataclass(frozen=True)
class Search:
    """One searched setting: its dotted name, the distribution's name and arguments."""

    name: str
    distribution: str
    arguments: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        return _DISTRIBUTIONS[self.distribution](rng, *self.arguments)


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
    except (ValueError, SyntaxError) as error:
        raise UserError(f"--search {text!r}: {match[2]!r} are not plain values") from error
    if match[1] != "choice" and not _is_range(arguments, match[1]):
        raise UserError(f"--search {text!r}: {match[1]} needs two numbers, LOW < HIGH")
    return Search(name.strip(), match[1], arguments)


def _is_range(arguments: tuple[Any, ...], distribution: str) -> bool:
    if len(arguments) != 2 or not all(isinstance(one, int | float) for one in arguments):
        return False
    low, high = arguments
    return low < high and (distribution != "loguniform" or low > 0)


def trials(searches: Sequence[Search], samples: int, seed: int = 0) -> tuple[dict[str, Any], ...]:
    """`samples` rows of settings; more samples add rows and change none."""
    import numpy as np  # takes a while to import, and only searches need it

    rows = []
    for number in range(samples):
        rng = np.random.default_rng([seed, number])
        rows.append({search.name: search.draw(rng) for search in searches})
    return tuple(rows)
