"""A run's metrics and checkpoints: written while it trains, and read to resume it."""

from __future__ import annotations

import errno
import json
import logging
import math
import pickle
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from experiments.errors import CheckpointDamaged, StoppedEarly, StorageError
from experiments.store.append_file import UPLOAD_SECONDS, AppendFile
from experiments.store.files import remove, upload, write_text, write_whole
from experiments.store.lease import Lease
from results.reading.location import (
    Location,
    exists,
    is_local,
    local_copy,
    names,
    scratch,
    storage_error,
)
from results.reading.metrics_log import read_records
from results.reading.run_folder import BEST, RunFolder
from tcclip.config import AugmentConfig
from tcclip.model import Model
from tcclip.model.checkpoints import save_checkpoint

log = logging.getLogger(__name__)

#: What torch.load and reading its result raise for a file that was cut or damaged.
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError)


class RunCheckpoints(AbstractContextManager["RunCheckpoints"]):
    """Keeps a run's metrics and checkpoints: the trainer's `TrainingRecorder`.

    `lease`: None on ranks that only read. `start_weights` and `augment`: what the checkpoints
    record of the weights the run started from and of how its videos are read. A context manager:
    its end uploads the metrics to a store.
    """

    def __init__(
        self,
        folder: RunFolder,
        lease: Lease | None,
        start_weights: Mapping[str, str | int] | None = None,
        augment: AugmentConfig | None = None,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self._save_best = partial(save_checkpoint, start=start_weights, augment=augment)
        self._metrics = None if lease is None else AppendFile(folder.metrics, lease.check)
        #: When each request was last looked for, as monotonic time.
        self._looked: dict[str, float] = {}

    def __exit__(self, *_: object) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record; nothing on ranks that only read.

        StoppedEarly if a search stopped the run; LeaseLost if another process took it over.
        """
        if self.lease is None or self._metrics is None:
            return
        if self._is_requested(self.folder.stopped):
            raise StoppedEarly(f"{self.folder.run_id}: stopped by its search")
        self.lease.check_if_late()
        try:
            with self._metrics.local.open("a") as file:
                file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:
            raise storage_error(self.folder.metrics, error) from error
        if "top1" in record:
            self._metrics.publish()

    def interrupted(self) -> bool:
        """Whether the run's sweep, or a user, asked it to pause."""
        return self._is_requested(self.folder.pause_request)

    def _is_requested(self, request: Location) -> bool:
        """Whether another process left the file `request`; a store is not asked at every step."""
        seconds = 0.0 if is_local(request) else UPLOAD_SECONDS
        if time.monotonic() - self._looked.get(request.name, -math.inf) < seconds:
            return False
        self._looked[request.name] = time.monotonic()
        return exists(request)

    def save_best(self, model: Model, epoch: int) -> None:
        """Keep `model`, as it is after `epoch`, beside the best one so far.

        The next training state records which of them is the best.
        """
        self._check_lease()
        target = self.folder.best_of(epoch)
        try:
            if isinstance(target, Path):
                self._save_best(model, target)
                return
            with scratch() as folder:
                self._save_best(model, folder / target.name)
                for path in (folder / target.with_suffix(".json").name, folder / target.name):
                    upload(path, target.with_name(path.name))
        except SafetensorError as error:  # quotes the system's error
            raise storage_error(target, OSError(str(error))) from error
        except OSError as error:
            raise storage_error(target, error) from error

    def save_last(self, state: dict[str, Any]) -> None:
        """Keep the training state; the one before stays until this one is whole.

        The metrics are published before it, and best weights it does not name are removed after
        it: whenever the process is killed, state, weights and metrics belong together.
        """
        self._check_lease()
        if self._metrics is not None:
            self._metrics.publish()
        write_whole(self.folder.last, lambda path: _save(state, path), self._check_lease)
        self._check_lease()  # writing may have taken long
        self._keep_best(int(state["progress"]["best_epoch"]))

    def load_last(self) -> dict[str, Any] | None:
        """The saved training state; metrics and weights written after it are removed.

        CheckpointDamaged if the state, or the best weights it names, cannot be read.
        """
        state = _load(self.folder)
        step = 0 if state is None else int(state["progress"]["step"])
        if self._metrics is not None:
            self._keep_best(0 if state is None else int(state["progress"]["best_epoch"]))
            self._truncate(self._metrics.local, step)
            log.info("training goes on from step %d", step)
        return state

    def _keep_best(self, epoch: int) -> None:
        """Remove the best weights of other epochs than `epoch`."""
        kept = self.folder.best_of(epoch)
        for name in names(kept.parent):
            if name.startswith(BEST) and name.partition(".")[0] != kept.name.partition(".")[0]:
                remove(kept.parent / name)

    def _truncate(self, metrics: Path, step: int) -> None:
        """Delete the records after `step`, and lines that a killed process left half-written."""
        if not metrics.exists():
            return
        records, damaged = read_records(metrics.read_bytes())
        if damaged:
            log.info("deleted %d torn or damaged lines of %s", damaged, metrics.name)
        kept = [json.dumps(record) + "\n" for record in records if record["step"] <= step]
        write_text(metrics, "".join(kept))

    def _check_lease(self) -> None:
        if self.lease is not None:
            self.lease.check()


def _load(folder: RunFolder) -> dict[str, Any] | None:
    try:
        with local_copy(folder.last) as path:
            if not path.exists():
                return None
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            best = int(state["progress"]["best_epoch"])
    except FileNotFoundError:
        return None
    except StorageError:  # a store that cannot be reached: the checkpoint is not damaged
        raise
    except (*_UNREADABLE, OSError) as error:
        # In a cut file torch seeks to before its beginning (EINVAL); other errors are the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CheckpointDamaged(
            f"{folder.last} cannot be read ({type(error).__name__}: {str(error)[:200]}), so the "
            f"run cannot resume from it; restore the file, or start this run again with "
            f"--rerun {folder.run_id}"
        ) from error
    if best and not exists(folder.best_of(best)):
        raise CheckpointDamaged(
            f"{folder.best_of(best)}, the best weights named in {folder.last.name}, is not "
            f"there; restore it, or start this run again with --rerun {folder.run_id}"
        )
    return state


def _save(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch's own message does not name it
                raise error.__context__ from None
            raise
