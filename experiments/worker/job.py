"""A job: a run and everything a worker needs to compute it. Sent to workers as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from experiments.datasets.paths import DataPaths
from experiments.grid import weights_file
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.worker.memory import Reduction
from results.reading.location import Location, location
from results.reading.run_folder import RunFolder
from tcclip.config import Execution, FrozenModel


class Job(FrozenModel):
    """One run, its output folder (absolute), where its data is and how it executes."""

    spec: RunSpec
    out: Annotated[Location, PlainValidator(location), PlainSerializer(str)]
    data_paths: DataPaths
    execution: Execution
    #: sha256 -> file, absolute, of the weights that `spec` names by their content.
    files: dict[str, Path] = Field(default_factory=dict)
    #: In whose name the sweep claimed the run for this attempt.
    owner: str
    #: The batch made smaller for this attempt after an out-of-memory error.
    reduction: Reduction | None = None

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return Ledger(self.out).folder(self.spec.run_id)

    @property
    def clip_weights(self) -> str | Path:
        """CLIP's weights that the model is made with: "openai", "random" or a given file."""
        content = self.spec.clip_content
        return self.spec.train.clip_weights if content is None else self.files[content]

    def check_files(self) -> None:
        """MissingData unless the weight files the run needs are here, unchanged."""
        for content in filter(None, (self.spec.checkpoint, self.spec.clip_content)):
            weights_file.check_file(self.files[content], content)

    @property
    def initial_weights(self) -> Location | None:
        """The checkpoint this run starts from: a given file, or its parent's best weights.

        None for one that goes on with its parent's training (`checkpoints.take_over`).
        """
        if self.spec.extends is not None:
            return None
        if self.spec.checkpoint is not None:
            return self.files[self.spec.checkpoint]
        if self.spec.parent is not None:
            return Ledger(self.out).folder(self.spec.parent).best
        return None
