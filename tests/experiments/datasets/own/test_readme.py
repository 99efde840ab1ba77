"""The README's commands for own data, as a new user would type them: from a folder to a table."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import cli
from tests.experiments.datasets.own.made import SMALL, class_folders
from tests.places import ROOT

CHANGED = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
OPTIONS = ["--executor", "local", "--device", "cpu", "--format", "md"]


def commands() -> list[list[str]]:
    """The commands of the first two blocks of the README's part on own data."""
    part = (ROOT / "README.md").read_text().partition("## Your own data\n")[2]
    blocks = re.findall(r"```\n(.*?)```", part, re.DOTALL)[:2]
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_from_a_folder_to_a_table_and_a_checkpoint_on_own_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(tmp_path / "trained on", ["wave hand", "Point_at", "nod, twice"], 4)
    class_folders(tmp_path / "new classes", ["push up", "jumping jack"], 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    init, sweep, report, init_test, evaluate = commands()
    assert [" ".join(one[1:3]) for one in (init, sweep, report, init_test, evaluate)] == [
        "data init", "sweep few_shot", "report few_shot", "data init", "evaluate zero_shot",
    ]  # fmt: skip

    def typed(command: list[str], folder: str, *more: str, checkpoint: str = "") -> str:
        known = {"VIDEOS": folder, "best.pth": checkpoint}
        monkeypatch.setattr(sys, "argv", [*(known.get(word, word) for word in command), *more])
        with pytest.raises(SystemExit) as stop:
            sys.exit(cli.main())
        shown = capsys.readouterr()
        assert not stop.value.code, shown.err
        return shown.out

    shown = typed(init, "trained on")
    assert "3 classes; train 6, val 3, test 3, train_2shot 6" in shown
    assert "tcclip sweep few_shot --dataset-file" in shown
    table = typed(sweep, "trained on", *CHANGED, *OPTIONS)
    assert re.search(r"\| TC-CLIP[^|]*\| ours, 1 seed \| [\d.]+", table)
    assert "trained_on K=2" in table and "| chance |  | 33.33 |" in table
    assert "trained_on K=2" in typed(report, "")
    typed(init_test, "new classes")
    (best,) = (tmp_path / "tcclip-out" / "runs").glob("*/checkpoints/best*.safetensors")
    sizes = ["--set", "augment.resize=36", "--set", "augment.crop=32"]
    table = typed(evaluate, "new classes", *sizes, *OPTIONS, checkpoint=str(best))
    assert "new_classes, over 1 split" in table and "| 50.00 |" in table
    assert re.search(r"\| TC-CLIP \[from checkpoint \w+\][^|]*\| ensembled \|", table)
