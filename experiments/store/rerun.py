"""`--rerun`: what a run held is kept in `<out>/rerun-backup/<run_id>` until it has begun again.

"Begun" means that the new attempt has written metrics or a result. A file system renames the run's
folder in one step. In an object store the files are copied and then deleted, `last.pt` first: a
rerun that was cut short there never goes on from the old training state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import LeaseHeld, StorageError
from experiments.store.files import remove, remove_all, write_text
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from results.reading.holder import PREFIX, lease_files, read_holder
from results.reading.location import Location, folder_names, names, read_bytes, storage_errors
from results.reading.run_folder import RunFolder


def backup_folder(ledger: Ledger) -> Location:
    """Where the backups of all runs are."""
    return ledger.out / "rerun-backup"


def find_backups(ledger: Ledger, run_ids: Collection[str]) -> set[str]:
    """Those of `run_ids` that have a backup."""
    return set(folder_names(backup_folder(ledger))).intersection(run_ids)


def back_up(ledger: Ledger, run_ids: Sequence[str], unfinished: Collection[str]) -> list[str]:
    """Move what these runs hold into the backup, so that they start from the beginning.

    `unfinished`: runs without a result when they were chosen. One that another sweep has finished
    since is kept, and returned. StorageError if a live process works on one of the runs: then
    nothing is moved.
    """
    for run_id in run_ids:
        holder = read_holder(ledger.folder(run_id).path)
        if holder is not None and holder.seems_alive():
            raise _in_use(f"{run_id} is held by {holder.host} pid {holder.pid}")
    kept = []
    for run_id in run_ids:
        folder = ledger.folder(run_id)
        if not names(folder.path):
            continue
        with claimed(folder.path):
            if run_id in unfinished and folder.read_result() is not None:
                kept.append(run_id)
                continue
            backup = _backup(ledger, run_id)
            if names(backup.path) and not delete_if_begun(ledger, run_id):
                _restore(folder, backup)
            move(folder, backup)
    return kept


def delete_if_begun(ledger: Ledger, run_id: str) -> bool:
    """Delete the backup of a run that has begun again; whether it has. For its lease's holder."""
    folder, backup = ledger.folder(run_id), _backup(ledger, run_id)
    # In a store the old files are still there if moving them was cut short.
    begun = any(
        new != read_bytes(backup.path / path.name)
        for path in (folder.metrics, folder.result)
        if (new := read_bytes(path)) is not None
    )
    if begun:
        remove_all(backup.path)
    return begun


def restore_unless_begun(ledger: Ledger, run_id: str) -> bool:
    """Put back what a run held that has not begun again; whether it was. Else delete the backup.

    StorageError if somebody works on the run.
    """
    folder = ledger.folder(run_id)
    with claimed(folder.path):
        if delete_if_begun(ledger, run_id):
            return False
        _restore(folder, _backup(ledger, run_id))
    return True


def _backup(ledger: Ledger, run_id: str) -> RunFolder:
    return RunFolder(backup_folder(ledger) / run_id)


@contextmanager
def claimed(path: Location) -> Iterator[None]:
    """Hold a run's lease while its folder is moved. StorageError if somebody else holds it."""
    try:
        with claim(path) as lease:
            if isinstance(path, Path):
                lease.stop()  # a heartbeat would make the folder anew
            yield
    except LeaseHeld as error:
        raise _in_use(str(error)) from error


def move(folder: RunFolder, backup: RunFolder) -> None:
    """Move what a run holds elsewhere in its output folder. For its lease's holder."""
    source, target = folder.path, backup.path
    if isinstance(source, Path) and isinstance(target, Path):
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        for path in lease_files(target):
            remove(path)
        return
    files = _copy(source, target)
    for path in (folder.last, folder.result, *files):
        remove(path)


def _restore(folder: RunFolder, backup: RunFolder) -> None:
    """Move the backup to its place again; the log keeps the lines of the new attempt."""
    source, target = backup.path, folder.path
    if not names(source):  # another sweep has put it back
        return
    log = read_bytes(folder.log) or b""
    if isinstance(source, Path) and isinstance(target, Path):
        remove_all(target)
        with storage_errors(target):
            source.rename(target)
    else:
        for path in (folder.failure, folder.paused):
            remove(path)
        _copy(source, target)
        remove_all(source)
    if log:
        old = read_bytes(folder.log) or b""
        write_text(folder.log, (old + log).decode(errors="replace"))


def _copy(source: Location, target: Location) -> list[Location]:
    """Copy the files of a folder within a store, but for leases; the files that were copied."""
    assert not isinstance(source, Path) and not isinstance(target, Path)
    with storage_errors(source):
        found = [one.removeprefix(source.path) for one in source.fs.find(source.path)]
        files = [name.strip("/") for name in found if not name.startswith(f"/{PREFIX}")]
        source.fs.copy(
            [f"{source.path}/{name}" for name in files], [f"{target.path}/{name}" for name in files]
        )
    return [source / name for name in files]


def _in_use(who: str) -> StorageError:
    return StorageError(f"{who}; stop it first (nothing of it was deleted)")
