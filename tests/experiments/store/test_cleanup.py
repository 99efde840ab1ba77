"""What a process that was killed in the middle of a write leaves goes; what is alive stays."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from experiments.store.files import OLD_SECONDS, clear_attempts, write_text
from experiments.store.ledger import Ledger
from results.reading.process_id import place
from tests.experiments.sweeping import small_specs
from tests.places import ROOT

ELSEWHERE = "0123456789abcdef"


def die_writing(*paths: Path) -> None:
    """Begin to write each of `paths` in a process that dies by SIGKILL in the middle."""
    code = """
import os, sys
from contextlib import ExitStack
from pathlib import Path
from experiments.store.files import _temporary, scratch
with ExitStack() as stack:
    for name in sys.argv[1:]:
        stack.enter_context(_temporary(Path(name))).write_text("half")
    stack.enter_context(scratch())
    os.kill(os.getpid(), 9)
"""
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], env=own, check=False)
    assert done.returncode == -9


def hidden(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def test_an_attempt_begins_in_a_clean_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    files = ["result.json", "spec.json", "lease-000002.json", "checkpoints/last.pt"]
    die_writing(*(folder / name for name in [*files, "predictions/suite/split.parquet"]))
    (folder / "checkpoints" / ".tmpAbCdEf").write_text("safetensors' own")
    (folder / "checkpoints" / ".best-0001.safetensors.77.tmp").write_text("half")
    assert len(hidden(folder)) == 7
    clear_attempts(folder)
    assert hidden(folder) == []


def test_live_writers_are_let_alone(tmp_path: Path) -> None:
    here = f"{place()}-{os.getpid()}-00000000.tmp"
    other = f"{ELSEWHERE}-1-00000000.tmp"
    alive = [f".spec.json.{here}", f".lease-000001.json.{here}", f".spec.json.{other}"]
    for name in [*alive, ".users-own.tmp"]:
        write_text(tmp_path / name, "half")
    clear_attempts(tmp_path)
    assert hidden(tmp_path) == sorted([*alive, ".users-own.tmp"])
    old = tmp_path.stat().st_mtime - OLD_SECONDS - 60
    for name in alive:
        os.utime(tmp_path / name, (old, old))
    clear_attempts(tmp_path)
    still = [name for name in alive if here in name]
    assert hidden(tmp_path) == sorted([*still, ".users-own.tmp"]), "here a live process is known"


def test_a_killed_sweeps_spec_goes_when_the_next_one_writes_it(tmp_path: Path) -> None:
    (spec,) = small_specs()
    ledger = Ledger(tmp_path)
    folder = ledger.folder(spec.run_id)
    die_writing(folder.spec)
    assert len(hidden(folder.path)) == 1
    ledger.add([spec])
    assert ledger.spec(spec.run_id) == spec
    assert hidden(folder.path) == []


def test_local_copies_of_the_dead_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    die_writing(tmp_path / "run" / "result.json")
    mine = tmp_path / f"tcclip-{place()}-{os.getpid()}-abc"
    others = tmp_path / f"tcclip-{ELSEWHERE}-1-abc"
    mine.mkdir()
    others.mkdir()
    assert len(list(tmp_path.glob("tcclip-*"))) == 3
    clear_attempts(tmp_path / "run")
    assert sorted(tmp_path.glob("tcclip-*")) == sorted([mine, others])
