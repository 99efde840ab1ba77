"""An output folder as `results` reads it: run folders and their files, local or remote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Part of every location that is a remote one: `s3://bucket/out`, `file:///data/out`.
_SCHEME = "://"


class Source(ABC):
    """Run folders under one output folder. `out` is its name, as given."""

    def __init__(self, out: str) -> None:
        self.out = out

    @abstractmethod
    def run_ids(self) -> list[str]:
        """Names of the run folders, sorted; FileNotFoundError if there is no output folder."""

    @abstractmethod
    def names(self, run_id: str) -> list[str]:
        """Names of what is in a run's folder, sorted; none if there is no such folder."""

    @abstractmethod
    def read(self, run_id: str, name: str) -> bytes | None:
        """The bytes of a run's file, e.g. `result.json`; None if there is none."""

    def where(self, run_id: str, name: str) -> str:
        """How a run's file is called in messages: relative to the output folder."""
        return f"runs/{run_id}/{name}"


class LocalSource(Source):
    """A folder on this machine."""

    def __init__(self, out: Path) -> None:
        super().__init__(str(out))
        self._runs = out / "runs"

    def run_ids(self) -> list[str]:
        if not self._runs.is_dir():
            if self._runs.parent.is_dir():
                return []
            raise FileNotFoundError(f"no such output folder: {self.out}")
        return sorted(entry.name for entry in self._runs.iterdir() if entry.is_dir())

    def names(self, run_id: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._runs / run_id).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, run_id: str, name: str) -> bytes | None:
        try:
            return (self._runs / run_id / name).read_bytes()
        except FileNotFoundError:
            return None


class RemoteSource(Source):
    """A location that fsspec reaches, e.g. S3 with s3fs; credentials from the environment.

    ValueError if its package is missing or the store does not answer.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        from upath import UPath

        try:
            # What other processes write has to be seen: no cached listings.
            root = UPath(uri.rstrip("/"), use_listings_cache=False)
            self._fs = root.fs
        except ImportError as error:
            raise ValueError(f"{uri} cannot be read without another package: {error}") from error
        self._root, self._runs = root.path, f"{root.path.rstrip('/')}/runs"

    def run_ids(self) -> list[str]:
        found = self._entries(self._runs)
        if found is None and self._entries(self._root) is None:
            raise FileNotFoundError(f"no such output folder: {self.out}")
        return sorted(name for name, kind in found or () if kind == "directory")

    def names(self, run_id: str) -> list[str]:
        return sorted(name for name, _ in self._entries(f"{self._runs}/{run_id}") or ())

    def read(self, run_id: str, name: str) -> bytes | None:
        with self._calling(), suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(f"{self._runs}/{run_id}/{name}"))
        return None

    def _entries(self, folder: str) -> list[tuple[str, str]] | None:
        """(name, type) of what is in a folder; None if there is no such folder."""
        with self._calling(), suppress(FileNotFoundError, NotADirectoryError):
            found = self._fs.ls(folder, detail=True)
            own = folder.strip("/")  # some stores keep a marker of this name in the folder
            paths = [(one["name"].strip("/"), one["type"]) for one in found]
            return [(path.rpartition("/")[2], kind) for path, kind in paths if path != own]
        return None

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            # Every store's client has errors of its own.
            raise ValueError(
                f"cannot read {self.out}: {type(error).__name__}: {error}; check the network, and "
                "the address and credentials in the environment (AWS_ENDPOINT_URL, ...)"
            ) from error


def open_source(out: Path | str) -> Source:
    """The output folder `out`: a path, or a URI such as `s3://bucket/out`."""
    if isinstance(out, str) and _SCHEME in out:
        return RemoteSource(out)
    return LocalSource(Path(out))
