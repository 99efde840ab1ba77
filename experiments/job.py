"""A job: a run and everything it takes to compute it here. Travels to workers as JSON."""

from __future__ import annotations

from pathlib import Path

from experiments.ledger import Ledger, RunFolder
from experiments.roots import Roots
from experiments.spec import RunSpec
from tcclip.config import Execution, Settings


class Job(Settings):
    """One run, its output folder (absolute), where its data is and how it executes."""

    spec: RunSpec
    out: Path
    roots: Roots
    execution: Execution

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return Ledger(self.out).folder(self.spec.run_id)

    @property
    def parent_checkpoint(self) -> Path:
        """The best weights of the run this one starts from."""
        assert self.spec.parent is not None
        return Ledger(self.out).folder(self.spec.parent).best
