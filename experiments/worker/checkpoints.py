"""A run's metrics and checkpoints: written while it trains, and read to resume it."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
from tcclip.config import AugmentConfig, Precision
from tcclip.model import Model
from tcclip.model.checkpoints import save_checkpoint
from tcclip.weights.weight_files import read_file

log = logging.getLogger(__name__)

#: Raises if a training state does not fit the run.
Check = Callable[[dict[str, Any]], None]
#: Best weights: the model they are of, the epoch, and its parameters then, on the host.
_Best = tuple[Model, int, dict[str, torch.Tensor]]


class RunCheckpoints(AbstractContextManager["RunCheckpoints"]):
    """Keeps a run's metrics and checkpoints: the trainer's `TrainingRecorder`.

    Training goes on while a thread writes a checkpoint; an error of that thread is raised by the
    next call. `lease`: None on ranks that only read. The others: what the checkpoints record of
    the weights the run started from, of how its videos are read and of its precision. A context
    manager: its end waits for the write and uploads the metrics to a store.
    """

    def __init__(
        self,
        folder: RunFolder,
        lease: Lease | None,
        start_weights: Mapping[str, str | int] | None = None,
        augment: AugmentConfig | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self._save_weights = partial(
            save_checkpoint, start=start_weights, augment=augment, precision=precision
        )
        self._metrics = None if lease is None else AppendFile(folder.metrics, lease.check)
        #: The best weights that no saved state names yet.
        self._best: _Best | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        #: When each request was last looked for, as monotonic time.
        self._looked: dict[str, float] = {}

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._writer.shutdown()
        if self._metrics is not None:
            self._metrics.close()
        if error is None:
            self._end_write()
        elif self._writing is not None and (failed := self._writing.exception()) is not None:
            # It must not hide the error that ended the training.
            log.warning("the last checkpoint was not written: %s", failed)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one metrics record; nothing on ranks that only read.

        StoppedEarly if a search stopped the run; LeaseLost if another process took it over; what
        `save_last` raises if the checkpoint that was being written failed.
        """
        if self.lease is None or self._metrics is None:
            return
        if self._writing is not None and self._writing.done():
            self._end_write()
        if self._is_requested(self.folder.stopped):
            raise StoppedEarly(f"{self.folder.run_id}: stopped by its search")
        self.lease.check_if_late()
        try:
            with self._metrics.local.open("a", encoding="utf-8") as file:
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

    def keep_best(self, model: Model, epoch: int) -> None:
        """Keep a copy of the weights after `epoch` in memory, for the next `save_last`.

        So a run that improves every epoch writes its best weights once a state, not once an epoch.
        """
        self._best = None  # its memory is used again
        self._best = model, epoch, on_host(model.state_dict())

    def save_last(self, state: dict[str, Any], wait: bool) -> None:
        """Write the training state, and the best weights kept since the one before.

        Returns once the state is copied to the host, or with `wait` once everything is written.
        A write that is going on is waited for first, so there is one at a time, and what it
        raised is raised here: StorageError, LeaseLost.
        """
        self._end_write()
        best, self._best = self._best, None
        self._writing = self._writer.submit(self._write, on_host(state), best)
        if wait:
            self._end_write()

    def _end_write(self) -> None:
        """Wait for the write that is going on, if there is one, and raise its error."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, state: dict[str, Any], best: _Best | None) -> None:
        """First the metrics and the best weights, then the state that names them.

        The state before stays until this one is whole, and so do the weights it names: whenever
        the process is killed, state, weights and metrics belong together.
        """
        self._check_lease()
        if self._metrics is not None:
            self._metrics.publish()
        if best is not None:
            self._write_best(*best)
        self._write_last(state)
        self._check_lease()  # writing may have taken long
        self._remove_best_but(int(state["progress"]["best_epoch"]))

    def _write_best(self, model: Model, epoch: int, weights: dict[str, torch.Tensor]) -> None:
        target = self.folder.best_of(epoch)
        try:
            if isinstance(target, Path):
                self._save_weights(model, target, state=weights)
                return
            with scratch() as folder:
                self._save_weights(model, folder / target.name, state=weights)
                for path in (folder / target.with_suffix(".json").name, folder / target.name):
                    upload(path, target.with_name(path.name))
        except SafetensorError as error:  # quotes the system's error
            raise storage_error(target, OSError(str(error))) from error
        except OSError as error:
            raise storage_error(target, error) from error

    def _write_last(self, state: dict[str, Any]) -> None:
        write_whole(self.folder.last, lambda path: _save(state, path), self._check_lease)

    def load_last(self, check: Check = lambda state: None) -> dict[str, Any] | None:
        """The saved training state; metrics and weights written after it are removed.

        CheckpointDamaged if the state, or the best weights it names, cannot be read, or if `check`
        finds that the state does not fit.
        """
        state = _load(self.folder, check)
        step = 0 if state is None else int(state["progress"]["step"])
        if self._metrics is not None:
            self._remove_best_but(0 if state is None else int(state["progress"]["best_epoch"]))
            self._truncate(self._metrics.local, step)
            log.info("training goes on from step %d", step)
        return state

    def _remove_best_but(self, epoch: int) -> None:
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


def take_over(parent: RunFolder, folder: RunFolder, check: Callable[[], None]) -> None:
    """Give the run of `folder`, which extends that of `parent`, what this one ended with: its lists
    (to be compared with), best weights and state. Nothing if it has a state of its own.

    The state comes last, so that a copy that was cut short is made again. CheckpointDamaged if the
    parent is not finished, or has no state any more; `check` as in `write_whole`.
    """
    if exists(folder.last):
        return
    result = parent.read_result()
    if result is None or not exists(parent.last):
        raise CheckpointDamaged(
            f"{parent.last} is not there, with which this run goes on: restore it, or forget this "
            f"run and train anew, --set train.epochs=N"
        )
    lists = {"kind": "lists", "step": 0, "digests": result.provenance.digests}
    write_text(folder.metrics, json.dumps({**lists, "time": round(time.time(), 3)}) + "\n", check)
    best = parent.best_of(result.selection.best_epoch)
    for name in (best.name, best.with_suffix(".json").name, parent.last.name):
        with local_copy(best.with_name(name)) as source:
            write_whole(folder.last.with_name(name), partial(shutil.copyfile, source), check)


def on_host(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of `state` with every tensor on the host, unchanged while the training goes on.

    Tensors on a GPU go to pinned memory, all at once: the host waits for them once.
    """
    copy: dict[str, Any] = _copied(state)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return copy


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        pinned = value.is_cuda
        host = torch.empty_like(value, device="cpu", pin_memory=pinned)
        return host.copy_(value.detach(), non_blocking=pinned)
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value)
    return value


def _load(folder: RunFolder, check: Check) -> dict[str, Any] | None:
    try:
        with local_copy(folder.last) as path:
            if not path.exists():
                return None
            state: dict[str, Any] = read_file(path, in_memory=True)
            best = int(state["progress"]["best_epoch"])
            if not all(isinstance(x, int | float | None) for x in state["progress"].values()):
                raise ValueError("its progress is not written in numbers")
            check(state)
    except FileNotFoundError:
        return None
    except StorageError:  # a store that cannot be reached: the checkpoint is not damaged
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(
            f"{folder.last} cannot be used ({type(error).__name__}: {str(error)[:200]}), so the "
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
