"""An output folder as `results` reads it: run folders and their files, local or remote."""

from __future__ import annotations

from abc import ABC, abstractmethod
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

    def read(self, run_id: str, name: str) -> bytes | None:
        try:
            return (self._runs / run_id / name).read_bytes()
        except FileNotFoundError:
            return None


class RemoteSource(Source):
    """A location any of pyarrow's file systems can read: S3, Google Cloud Storage, HDFS."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        from pyarrow import fs

        self._fs, root = fs.FileSystem.from_uri(uri.rstrip("/"))
        self._runs = f"{root}/runs"
        self._root = root

    def run_ids(self) -> list[str]:
        from pyarrow import fs

        root, runs = self._fs.get_file_info([self._root, self._runs])
        if runs.type == fs.FileType.NotFound:
            if root.type == fs.FileType.NotFound:
                raise FileNotFoundError(f"no such output folder: {self.out}")
            return []
        entries = self._fs.get_file_info(fs.FileSelector(self._runs))
        return sorted(e.base_name for e in entries if e.type == fs.FileType.Directory)

    def read(self, run_id: str, name: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(f"{self._runs}/{run_id}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None


def open_source(out: Path | str) -> Source:
    """The output folder `out`: a path, or a URI such as `s3://bucket/out`."""
    if isinstance(out, str) and _SCHEME in out:
        return RemoteSource(out)
    return LocalSource(Path(out))
