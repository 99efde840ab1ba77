"""The processes that load batches: one set for a run's training and all its tests.

Batches come back through memory that has no name (memfd on Linux), so /dev/shm, which is small in
containers, does not limit them. Each process has a few pieces of it and writes them in turn: one
is used again when its batch was copied out of it. Nothing that can fail happens in the thread
that torch sends results with: an error there is printed, and the batch waited for in vain.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from tcclip.config import LOADER_PIECES, LOADER_PREFETCH
from tcclip.data.decode.shared_memory import SharedFrames, unnamed_file

log = logging.getLogger(__name__)

#: Makes a batch of the keys of its videos.
Source = Callable[[Sequence[Any]], Any]


#: What the system and torch's allocator say.
_NO_MEMORY = re.compile("allocate memory|No space left on device|not enough memory", re.I)


class NoMemory(RuntimeError):
    """A process that loads videos found no memory for a batch, or for decoding."""


class LoaderPool:
    """Loads batches from any of its sources, in this process or in `workers` others.

    The processes start with the first batch, stay, and serve one source at a time. `waited`:
    seconds spent waiting for batches, of those since the first one was asked for, `waited_of`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.waited = 0.0
        self._began: float | None = None
        self._sources: list[Source] = []
        self._keys = _Keys()
        self._loader: DataLoader[Any] | None = None
        #: Processes were wanted, and the system started none.
        self.refused = False

    @property
    def waited_of(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def add(self, source: Source) -> int:
        """The number of a further source. Running processes do not know it, and are ended."""
        self.close()
        self._sources.append(source)
        return len(self._sources) - 1

    def batches(self, number: int, keys: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Batches of source `number`, one for each of `keys`, in their order.

        What a source raises in another process is raised here, a want of memory as NoMemory.
        RuntimeError if a process ended: see `exit_codes`.
        """
        self._began = self._began or time.monotonic()
        self._keys.wanted = ((number, one) for one in keys)
        batches = self._begin()
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            if isinstance(batch, _Packed):
                batch = batch.pin_memory()
            # A GPU that still computes does not wait.
            if not torch.cuda.is_initialized() or torch.cuda.current_stream().query():
                self.waited += time.monotonic() - asked
            if batch is None:
                return
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _begin(self) -> Iterator[Any]:
        if self._loader is None:
            self._loader = self._start()
        try:
            return iter(self._loader)
        except OSError as error:
            # No semaphores, processes or descriptors left: slower, and the same numbers.
            log.warning(
                "processes that load videos cannot be started (%s): this one loads them itself. "
                "Free some space in /dev/shm, or raise the limits on processes and open files",
                error,
            )
            self.close()
            self.workers, self.refused = 0, True
            self._loader = self._start()
            return iter(self._loader)

    def _start(self) -> DataLoader[Any]:
        options: dict[str, Any] = {}
        if self.workers:
            options = {
                "prefetch_factor": LOADER_PREFETCH,
                "persistent_workers": True,
                # They have this one's modules and descriptors; others import torch for seconds.
                "multiprocessing_context": "fork",
                # A signal to the run's process group is for the run, which needs them then.
                "worker_init_fn": lambda _: os.setpgrp(),
            }
        return DataLoader(
            _Sources(self._sources, [_Pieces() for _ in range(self.workers)]),
            batch_size=None,
            sampler=self._keys,
            collate_fn=lambda batch: batch,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: otherwise each epoch would draw from torch's global one.
            generator=torch.Generator(),
            **options,
        )

    def exit_codes(self) -> list[int]:
        """Those of processes that ended by themselves; -9 is SIGKILL."""
        processes = getattr(getattr(self._loader, "_iterator", None), "_workers", ())
        return [one.exitcode for one in processes if one.exitcode]

    def close(self) -> None:
        """End the processes; the next batch starts others."""
        self._loader = None


class _Keys(Sampler[Any]):
    """Hands the keys on. It must not hold its loader: in a reference cycle torch does not stop the
    processes when the loader is dropped, and waits five seconds for each."""

    wanted: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.wanted


@dataclass
class _Sources(Dataset[Any]):
    """All sources; a process packs what they give into its own pieces of memory."""

    sources: Sequence[Source]
    pieces: Sequence[_Pieces]

    def __getitem__(self, key: tuple[int, Sequence[Any]]) -> Any:
        number, keys = key
        worker = get_worker_info()
        if worker is None:
            return self.sources[number](keys)
        try:
            return self.pieces[worker.id].pack(self.sources[number](keys))
        except Exception as error:  # noqa: BLE001
            return _sendable(error, traceback.format_exc())


def _sendable(error: Exception, trace: str) -> Exception:
    """`error` with its traceback, or one of the same text that survives pickling."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return NoMemory(text)
    error.add_note(f"in a process that loads videos:\n{trace}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001
        return RuntimeError(text)
    return error


class _Pieces:
    """One process's memory for batches, shared with the process that uses them."""

    def __init__(self) -> None:
        self.files = [unnamed_file() for _ in range(LOADER_PIECES)]
        self._mapped = [SharedFrames(file) for file in self.files]
        self._packed = 0
        for file in self.files:
            weakref.finalize(self, os.close, file)

    def pack(self, batch: Any) -> _Packed:
        """Put the tensors of `batch` into the next piece."""
        arrays: list[NDArray[np.uint8]] = []

        def keep(buffer: pickle.PickleBuffer) -> None:
            arrays.append(np.frombuffer(buffer.raw(), np.uint8))

        file = BytesIO()
        _TensorPickler(file, protocol=5, buffer_callback=keep).dump(batch)
        number = self._packed % LOADER_PIECES
        self._packed += 1
        self._mapped[number].write(*arrays)
        return _Packed(file.getvalue(), self.files[number], [len(one) for one in arrays])


class _TensorPickler(pickle.Pickler):
    """Tensors as NumPy arrays, whose bytes pickle leaves to its caller."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return _copied_tensor, (value.contiguous().numpy(),)
        return NotImplemented


def _copied_tensor(array: NDArray[Any]) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor.clone()


class _Packed(NamedTuple):
    """A batch whose tensors are in the file `descriptor`, which a forked process has by the same
    number. The message itself is small enough for a pipe to take it at once."""

    pickled: bytes
    descriptor: int
    sizes: list[int]

    def pin_memory(self) -> Any:
        """The batch, copied; torch's thread for pinned memory calls this where there is a GPU."""
        arrays = SharedFrames(self.descriptor).views(self.sizes)
        return pickle.loads(self.pickled, buffers=arrays)
