"""A job: a run and everything it takes to compute it here. Travels to workers as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from experiments.files import Location, location
from experiments.ledger import Ledger, RunFolder
from experiments.memory import Reduction
from experiments.roots import Roots
from experiments.spec import RunSpec
from tcclip.config import Execution, Settings


class Job(Settings):
    """One run, its output folder (absolute), where its data is and how it executes."""

    spec: RunSpec
    out: Annotated[Location, PlainValidator(location), PlainSerializer(str)]
    roots: Roots
    execution: Execution
    #: The file whose sha256 is `spec.checkpoint`.
    checkpoint: Path | None = None
    #: In whose name the run was claimed for this attempt; without, the worker claims it itself.
    owner: str | None = None
    #: What was made smaller for this attempt.
    reduction: Reduction | None = None

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return Ledger(self.out).folder(self.spec.run_id)

    @property
    def initial_weights(self) -> Location | None:
        """The checkpoint this run starts from: a given file, or its parent's best weights."""
        if self.spec.checkpoint is not None:
            assert self.checkpoint is not None
            return self.checkpoint
        if self.spec.parent is not None:
            return Ledger(self.out).folder(self.spec.parent).best
        return None
