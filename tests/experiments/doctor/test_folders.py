"""The folders that are written to."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from experiments.doctor import folders


def test_folders(tmp_path: Path) -> None:
    later = folders.local_folder("output folder", tmp_path / "a" / "b", "--out", 0, folders._link)
    assert later.ok and "(will be made)" in later.detail
    assert not (tmp_path / "a").exists() and not list(tmp_path.iterdir())
    full = folders.local_folder("output folder", tmp_path, "--out", 2**60, folders._link)
    assert full.ok is False and "free at least" in full.remedy
    (tmp_path / "file").write_text("")
    wrong = folders.output(str(tmp_path / "file"))
    assert wrong.ok is False and "Not a directory" in wrong.detail and "--out" in wrong.remedy


def test_a_file_system_without_hard_links_or_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    out = folders.output(str(tmp_path))
    assert out.ok is False and "no hard links" in out.detail and "--out" in out.remedy
    cache = folders.cache(tmp_path)
    assert cache.ok is False and "no locks" in cache.detail and "$TCCLIP_CACHE" in cache.remedy
    assert not list(tmp_path.iterdir())
