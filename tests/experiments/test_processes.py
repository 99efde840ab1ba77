"""Processes that share data where the temporary folder has a long path."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import torch
from torch.utils.data import DataLoader
from experiments.processes import make_room_for_sockets
if __name__ == "__main__":
    make_room_for_sockets()  # without it the loader's process fails, and this one waits for ever
    ((batch,),) = DataLoader([torch.ones(9)], num_workers=1)
    print(int(batch.sum()))
"""


def test_a_loader_works_where_the_temporary_folder_has_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 80)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "9\n", done.stderr
    assert not list(folder.iterdir())
