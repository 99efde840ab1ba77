"""The command that a sweep's summary gives to go on with."""

from pathlib import Path

import pytest

from experiments.scheduler.summary import shell_command, without
from experiments.tracking.connection import sync_command


def test_the_command_to_go_on_deletes_nothing_again() -> None:
    for given in (["--rerun", "all"], ["--rerun=failed"]):
        assert without("--rerun", ["sweep", "x", *given, "--demo"]) == ["sweep", "x", "--demo"]


@pytest.mark.parametrize("given", [(), ("--out", "b"), ("--out=b",)])
def test_commands_that_are_shown_work_in_any_folder(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    # As with $TCCLIP_OUT, which the next shell may not have.
    command = shell_command(["sweep", *given, "--demo"], "b")
    assert command == f"tcclip sweep --demo --out {tmp_path / 'b'}"
    assert sync_command("s3://bucket/out") == "tcclip ui --sync --out s3://bucket/out"
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.argv", [".venv/bin/tcclip"])
    assert shell_command(["ui"], "/out") == f"{tmp_path}/.venv/bin/tcclip ui --out /out"
