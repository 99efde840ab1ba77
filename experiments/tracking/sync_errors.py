"""What went wrong with single runs while all others were copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from experiments.errors import StorageError
from experiments.tracking.connection import redact_url
from experiments.tracking.lock import NotOurTurn

#: So many of a kind are named.
NAMED = 10


class _Damaged(Exception):
    """Files of one run cannot be understood."""


@contextmanager
def reading() -> Iterator[None]:
    """Around what a run's files say: not to take their faults for the tracker's."""
    try:
        yield
    except StorageError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise _Damaged(f"{type(error).__name__}: {error}") from error


class Incomplete(RuntimeError):
    """Some runs were not copied, or not whole. All others were."""


@dataclass
class Trouble:
    """Run id -> why: its files cannot be understood (`damaged`) or could not be read just now
    (`unread`), or the tracker answers but did not take something of it (`refused`)."""

    answers: Callable[[], object]
    damaged: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def of(self, run_id: str) -> Iterator[None]:
        """Around one run: what goes wrong is kept, and the next one's turn comes.

        A tracker that does not answer (`answers` raises) is no run's trouble: its error goes on.
        """
        try:
            yield
        except NotOurTurn:
            raise
        except _Damaged as error:
            self.damaged[run_id] = str(error)
        except StorageError as error:
            self.unread[run_id] = str(error)
        except Exception as error:  # noqa: BLE001
            # A tracker may refuse in any way: too large a file, no right to a path.
            self.answers()
            self.refused[run_id] = f"{type(error).__name__}: {redact_url(str(error))}"

    def check(self) -> None:
        """Incomplete if there was any."""
        parts = [
            f"{what}:\n{_listed(runs)}"
            for what, runs in (
                ("files that cannot be understood (repair them, or run them again with --rerun)",
                 self.damaged),
                ("files that could not be read just now; try again", self.unread),
                ("MLflow did not take all of these; see its server's log, and try again",
                 self.refused),
            )
            if runs
        ]  # fmt: skip
        if parts:
            raise Incomplete("\n".join(parts))


def _listed(runs: dict[str, str]) -> str:
    lines = [f"  {run_id}: {why}" for run_id, why in list(runs.items())[:NAMED]]
    if len(runs) > NAMED:
        lines.append(f"  and {len(runs) - NAMED} more")
    return "\n".join(lines)
