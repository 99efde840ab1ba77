"""A circuit breaker: when the same error ends several runs, runs like them are not started."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from experiments.grid.spec import RunSpec

#: After so many runs with the same error, and none that finishes in between, it blocks others.
LIMIT = 3
#: Which GPU, paths and numbers (also hexadecimal): they differ between runs with the same error.
_VARYING = re.compile(r"\(on GPU[^)]*\)|(?<!\w)/[^\s:;,'\")]+|0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?")


def signature(run_id: str, message: str) -> str:
    """An error's message without what belongs to one run alone."""
    return _VARYING.sub("#", message.replace(run_id, "RUN"))


def traits(spec: RunSpec) -> frozenset[str]:
    """What a run may have in common with others that fail; not its seed."""
    point = spec.key.model_dump(include={"dataset", "model", "variant", "shots", "base_split"})
    return frozenset({*(f"{name}={value}" for name, value in point.items()), *spec.key.overrides})


@dataclass
class CircuitBreaker:
    """Counts the runs that failed for good, by error.

    An error blocks the runs that share what all its failed runs have in common: a missing data
    set does not stop the other data sets, a broken driver stops everything.
    """

    _failed: dict[str, list[frozenset[str]]] = field(default_factory=dict)

    def add_failure(self, spec: RunSpec, message: str) -> None:
        """A run failed for good."""
        self._failed.setdefault(signature(spec.run_id, message), []).append(traits(spec))

    def add_success(self, spec: RunSpec) -> None:
        """A run finished: drop the errors of runs like it, which do not end every such run."""
        own = traits(spec)
        self._failed = {
            error: runs
            for error, runs in self._failed.items()
            if not frozenset.intersection(*runs) <= own
        }

    def blocking_error(self, spec: RunSpec) -> str | None:
        """The error that keeps `spec` from being started, if there is one."""
        for error, failed in self._failed.items():
            if len(failed) >= LIMIT and frozenset.intersection(*failed) <= traits(spec):
                return error
        return None
