"""The run folder as the training loop's recorder: metrics, checkpoints, and going on from them."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import pickle
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from safetensors import SafetensorError

from experiments.errors import CheckpointDamaged, StoppedEarly, StorageError
from experiments.store.append_file import UPLOAD_SECONDS, AppendFile
from experiments.store.files import remove, upload, write_text, write_whole
from experiments.store.lease import Lease
from results.reading.location import exists, is_local, local_copy, names, scratch, storage_error
from results.reading.metrics_log import read_records
from results.reading.run_folder import BEST, RunFolder
from tcclip.model import Model
from tcclip.model.checkpoints import save_checkpoint

log = logging.getLogger(__name__)

#: What torch.load and a look into its result raise for a file that was cut or damaged.
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError)


class RunCheckpoints:
    """Writes a run's metrics and checkpoints; `lease` is None on ranks that only read.

    `start`: what the checkpoints say of the weights the run started from.
    A context manager: at its end the metrics of a run in a store are uploaded.
    """

    def __init__(
        self,
        folder: RunFolder,
        lease: Lease | None,
        start: Mapping[str, str | int] | None = None,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self.start = start
        self._metrics = None if lease is None else AppendFile(folder.metrics, lease.check)
        self._looked: dict[str, float] = {}

    def __enter__(self) -> RunCheckpoints:
        return self

    def __exit__(self, *_: object) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record, whole lines only. StoppedEarly if a search has seen enough;
        LeaseLost if the run is another process's by now."""
        if self._metrics is None:
            return
        self._check_stopped()
        if self.lease is not None:
            self.lease.check_if_late()
        try:
            with self._metrics.local.open("a") as file:
                file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:
            raise storage_error(self.folder.metrics, error) from error
        if "top1" in record:
            self._metrics.publish()

    def _check_stopped(self) -> None:
        if self._look("stopped") and exists(self.folder.stopped):
            raise StoppedEarly(f"{self.folder.run_id}: stopped by its search")

    def interrupted(self) -> bool:
        """Whether the run's sweep, or a user, asked it to pause."""
        return self._look("pause") and exists(self.folder.pause_request)

    def _look(self, what: str) -> bool:
        """Whether to look for a file that asks something; a store is not asked at every step."""
        often = 0.0 if is_local(self.folder.path) else UPLOAD_SECONDS
        if time.monotonic() - self._looked.get(what, -math.inf) < often:
            return False
        self._looked[what] = time.monotonic()
        return True

    def save_best(self, model: Model, epoch: int) -> None:
        """Keep `model`, as it is after `epoch`, beside the best one so far.

        Which of them is the best one only the next training state says.
        """
        self._check()
        target = self.folder.best_of(epoch)
        try:
            if isinstance(target, Path):
                save_checkpoint(model, target, start=self.start)
                return
            with scratch() as folder:
                save_checkpoint(model, folder / target.name, start=self.start)
                for path in (folder / target.with_suffix(".json").name, folder / target.name):
                    upload(path, target.with_name(path.name))
        except SafetensorError as error:
            raise storage_error(target, _os_error(error)) from error
        except OSError as error:
            raise storage_error(target, error) from error

    def save_last(self, state: dict[str, Any]) -> None:
        """Keep the training state; the one before stays until this one is whole.

        The metrics are there before it, and best weights it does not name are removed after it:
        whenever the process is killed, state, weights and metrics belong together.
        """
        self._check()
        if self._metrics is not None:
            self._metrics.publish()
        write_whole(self.folder.last, lambda path: _save(state, path), self._check)
        self._check()  # it may have taken long
        self._keep_best(int(state["progress"]["best_epoch"]))

    def load_last(self) -> dict[str, Any] | None:
        """The saved training state; what was written after it is removed, to be made again.

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

    def _check(self) -> None:
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
    except StorageError:  # a store out of reach damages nothing
        raise
    except (*_UNREADABLE, OSError) as error:
        # A cut file makes torch seek to before its beginning; other errors are the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CheckpointDamaged(
            f"{folder.last} cannot be read ({type(error).__name__}: {str(error)[:200]}), so the "
            f"run cannot go on from it; restore the file, or start this run again with "
            f"--rerun {folder.run_id}"
        ) from error
    if best and not exists(folder.best_of(best)):
        raise CheckpointDamaged(
            f"{folder.best_of(best)} is not there, the best weights that {folder.last.name} "
            f"names; restore it, or start this run again with --rerun {folder.run_id}"
        )
    return state


def _save(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save(state, cast(IO[bytes], writer))
        except RuntimeError:
            if writer.error is not None:  # torch says only that it is not where it should be
                raise writer.error from None
            raise


class _Writer:
    """A file that remembers why a write failed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _os_error(error: SafetensorError) -> OSError:
    """What the system said; safetensors only quotes it."""
    found = re.search(r"os error (\d+)", str(error))
    return (
        OSError(str(error)) if found is None else OSError(int(found[1]), os.strerror(int(found[1])))
    )
