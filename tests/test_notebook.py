"""The notebook on one's own videos runs as it stands, on a tiny checkpoint."""

import json
from pathlib import Path

import pytest

from tcclip.data.annotations import read_class_names
from tests.notebook import run
from tests.places import ROOT
from tests.tcclip.predict.made import make_checkpoint


def test_the_notebook_runs(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = tmp_path / "tcclip-demo/runs/zero_shot-moving_shapes-tc_clip-base/checkpoints"
    checkpoints.mkdir(parents=True)
    labels = cache / "moving_shapes/labels/seen.csv"
    make_checkpoint(checkpoints, names=tuple(read_class_names(labels)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    notebook = json.loads((ROOT / "docs/own_videos.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in code), "its outputs are shown in docs/"
    run(notebook)
    printed = ["".join(one.get("text", "")) for cell in code for one in cell["outputs"]]
    assert "absent.mp4 -> no such file" in "".join(printed)
