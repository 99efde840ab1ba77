"""`tcclip explain`, as typed."""

from pathlib import Path
from shutil import copy

import pytest
import typer
from typer.testing import CliRunner

from experiments.errors import UserError
from experiments.inference.explain_command import explain
from experiments.store.ledger import Ledger
from tcclip.model import build_model, save_checkpoint
from tests.builders import make_result
from tests.experiments.sweeping import small_specs
from tests.tcclip.predict.made import AUGMENT, make_checkpoint, make_clips

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(explain)


def run(*words: str | Path) -> str:
    return CliRunner().invoke(app, [str(one) for one in words], catch_exceptions=False).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    make_checkpoint(folder)
    make_clips(folder / "clips", 1)
    (folder / "letter.mp4").write_text("Dear Sir or Madam")
    (folder / "names.txt").write_text("a dog\na cat\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "mine.txt").write_text("mine")
    return folder


def test_explaining(folder: Path, tmp_path: Path) -> None:
    clip, checkpoint = tmp_path / "caf\udce9.mp4", folder / "best.safetensors"
    copy(folder / "clips" / "0.mp4", clip)
    asked = [clip, "--checkpoint", checkpoint, "--write", tmp_path / "x", "--groups", "2"]
    said = run(*asked, "--classes", folder / "names.txt", "--beside", checkpoint)
    assert "says a dog" in said or "says a cat" in said
    assert "most gained by a" in said and str(tmp_path / "x" / "index.html") in said
    assert (tmp_path / "x" / "side_by_side.png").exists()
    assert "caf\\udce9.mp4" in (tmp_path / "x" / "index.html").read_text()


@pytest.mark.parametrize(
    ("video", "options", "message"),
    [
        ("none.mp4", {}, "no video at"),
        ("letter.mp4", {}, "letter.mp4"),
        ("clips/0.mp4", {"--checkpoint": "none.safetensors"}, "no checkpoint"),
        ("clips/0.mp4", {"--checkpoint": "letter.mp4"}, "letter.mp4"),
        ("clips/0.mp4", {"--write": "taken"}, r"taken holds other files \(mine.txt\)"),
        ("clips/0.mp4", {"--classes": " , "}, "names no class"),
        ("clips/0.mp4", {"--classes": "word " * 80}, "is left|are left"),
        ("clips/0.mp4", {"--classes": "A Dog,a_dog"}, "are one class to the model"),
        ("clips/0.mp4", {"--device": "tpu"}, "tpu"),
        (".", {}, "holds 2 videos; give one of them"),
        ("clips/0.mp4", {"--kinds": None}, "--kinds needs a checkpoint of a run"),
    ],
)
def test_what_cannot_be_explained_is_said_and_nothing_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, video: str, options: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(folder)
    given = {"--checkpoint": "./best.safetensors", "--write": "new"} | options
    words = [word for pair in given.items() for word in pair if word is not None]
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=message):
        run(video, *words)
    assert sorted(folder.rglob("*")) == before


def test_runs_of_other_kinds_are_found_by_their_settings(folder: Path, tmp_path: Path) -> None:
    (spec,) = small_specs()
    ledger = Ledger(tmp_path / "out")
    asked = [folder / "clips" / "0.mp4", "--checkpoint", spec.run_id, "--kinds"]
    asked += ["--out", tmp_path / "out", "--write", tmp_path / "x"]
    for kind in ("context", "joint"):
        model = spec.model.model_copy(update={"frame_attention": kind})
        one = spec.model_copy(update={"model": model})
        ledger.add([one])
        run_folder = ledger.folder(one.run_id)
        made = build_model(model, ["a", "b"])
        save_checkpoint(made, run_folder.best_of(1), augment=AUGMENT)
        if kind == "joint":
            with pytest.raises(UserError, match="no finished run that differs"):
                run(*asked)
        run_folder.result.write_text(make_result(one).model_dump_json())
    run(*asked)
    page = (tmp_path / "x" / "index.html").read_text()
    assert "joint space-time attention" in page and "side by side" in page
