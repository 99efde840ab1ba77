"""The run folder as the training loop's journal: metrics, checkpoints, and going on from them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.errors import StoppedEarly
from experiments.files import unusable, write_text, write_whole
from experiments.lease import Lease
from experiments.ledger import RunFolder
from tcclip.model import Model
from tcclip.model.checkpoints import save_checkpoint

log = logging.getLogger(__name__)


class RunJournal:
    """Writes a run's metrics and checkpoints; `lease` is None on ranks that only read."""

    def __init__(self, folder: RunFolder, lease: Lease | None) -> None:
        self.folder = folder
        self.lease = lease

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record, whole lines only. StoppedEarly if a search has seen enough."""
        if self.folder.stopped.exists():
            raise StoppedEarly(f"{self.folder.run_id}: stopped by its search")
        try:
            with self.folder.metrics.open("a") as file:
                file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:
            raise unusable(self.folder.metrics, error) from error

    def save_best(self, model: Model) -> None:
        """Keep `model` as the best checkpoint so far."""
        self._check()
        save_checkpoint(model, self.folder.best)

    def save_last(self, state: dict[str, Any]) -> None:
        """Keep the training state; the one before stays until this one is whole."""
        self._check()
        write_whole(self.folder.last, lambda path: _save(state, path))

    def load_last(self) -> dict[str, Any] | None:
        """The saved training state; metrics written after it are cut off, to be made again."""
        path = self.folder.last
        state: dict[str, Any] | None = None
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
        step = 0 if state is None else int(state["progress"]["step"])
        if self.lease is not None:
            self._truncate(step)
            log.info("training goes on from step %d", step)
        return state

    def _truncate(self, step: int) -> None:
        if not self.folder.metrics.exists():
            return
        kept = []
        for line in self.folder.metrics.read_text().splitlines(keepends=True):
            # Only the last line can be half-written, by a process that was killed.
            if not line.endswith("\n"):
                log.info("dropped a half-written metrics line: %r", line[:80])
            elif json.loads(line)["step"] <= step:
                kept.append(line)
        write_text(self.folder.metrics, "".join(kept))

    def _check(self) -> None:
        if self.lease is not None:
            self.lease.check()


def _save(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
