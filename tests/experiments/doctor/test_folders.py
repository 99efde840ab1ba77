"""The folders that are written to."""

from pathlib import Path

from experiments.doctor import folders


def test_folders(tmp_path: Path) -> None:
    later = folders.local_folder("output folder", tmp_path / "a" / "b", "--out", 0)
    assert later.ok and "(will be made)" in later.detail
    assert not (tmp_path / "a").exists() and not list(tmp_path.iterdir())
    full = folders.local_folder("output folder", tmp_path, "--out", 2**60)
    assert full.ok is False and "free at least" in full.remedy
    (tmp_path / "file").write_text("")
    wrong = folders.local_folder("output folder", tmp_path / "file", "--out", 0)
    assert wrong.ok is False and "Not a directory" in wrong.detail and "--out" in wrong.remedy
