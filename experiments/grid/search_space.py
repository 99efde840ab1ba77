"""`--search train.lr=loguniform(1e-7,1e-5)`: trials of a search as rows of a grid.

The trials are drawn here, from a fixed generator, so that the same command is the same trials
and goes on where it stopped; Ray Tune's ASHA decides which of them are worth finishing.
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


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return _rounded(rng.uniform(low, high))


def _loguniform(rng: np.random.Generator, low: float, high: float) -> float:
    return _rounded(math.exp(rng.uniform(math.log(low), math.log(high))))


def _randint(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _choice(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


_DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "randint": _randint,
    "choice": _choice,
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
    search = Search(name.strip(), match[1], arguments)
    _check(search, text)
    return search


def _check(search: Search, text: str) -> None:
    if search.distribution == "choice":
        return
    good = len(search.arguments) == 2 and all(
        isinstance(value, int | float) for value in search.arguments
    )
    if good:
        low, high = search.arguments
        good = low < high and (search.distribution != "loguniform" or low > 0)
    if not good:
        raise UserError(f"--search {text!r}: {search.distribution} needs two numbers, LOW < HIGH")


def trials(searches: Sequence[Search], samples: int, seed: int = 0) -> tuple[dict[str, Any], ...]:
    """`samples` rows of settings. More samples keep the ones there were and add to them."""
    import numpy as np  # planning without a search does not wait for it

    rows = []
    for number in range(samples):
        rng = np.random.default_rng([seed, number])
        rows.append({search.name: search.draw(rng) for search in searches})
    return tuple(rows)
