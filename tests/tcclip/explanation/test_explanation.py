"""A video explained as a whole: the numbers are the model's, the files show them."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tcclip
from tcclip.explanation import files, pictures, write
from tcclip.explanation.attention import encode
from tcclip.explanation.prompting import class_scores
from tcclip.predict import Predictor
from tests.tcclip.model.builders import NAMES, small_model, small_video
from tests.tcclip.predict.made import make_checkpoint, make_clips

Explained = tuple[tcclip.Explanation, Predictor, Path]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    folder = tmp_path_factory.mktemp("explained")
    (clip,) = make_clips(folder / "clips", 1)
    predictor = tcclip.load(make_checkpoint(folder))
    return tcclip.explain(clip, predictor), predictor, clip


def test_it_explains_what_predict_says(case: Explained) -> None:
    found, predictor, clip = case
    said = predictor.predict(clip)
    np.testing.assert_allclose(found.scores.probabilities, said.scores, atol=1e-6)
    assert found.scores.names == predictor.class_names
    seen = predictor.clip(clip)[0].permute(0, 2, 3, 1).numpy()
    for channel in range(3):  # normalised, and nothing else
        slope = np.polyfit(found.frames[..., channel].ravel(), seen[..., channel].ravel(), 1)
        fitted = np.polyval(slope, found.frames[..., channel])
        np.testing.assert_allclose(fitted, seen[..., channel], atol=1e-4)
    named = tcclip.explain(clip, predictor, classes=["a b", "c"])
    assert named.scores.names == ("a b", "c")


def test_the_files(case: Explained, tmp_path: Path) -> None:
    found, _, _ = case
    folder = tmp_path / "new" / "explained"
    written = write(found, folder, beside=[found], groups=3)
    assert sorted(written) == sorted(folder.iterdir())
    assert [one.name for one in tmp_path.rglob("*.tmp")] == []
    for one in folder.glob("*.png"):
        with Image.open(one) as picture:
            assert min(picture.size) > 300
    with Image.open(folder / "animation.gif") as moving:
        assert moving.n_frames == len(found.frames) and moving.info["loop"] == 0
    page = (folder / "index.html").read_text()
    assert not re.search(r"https?://|src=\"(?!data:)", page)
    assert page.count("<details") == len(found.layers)
    assert all(name in page for name in found.scores.names)
    assert "side by side" in page
    # Again into the same folder: an earlier explanation is replaced as a whole.
    write(found, folder)
    assert not (folder / "side_by_side.png").exists()


def test_nothing_is_written_unless_all_is_drawn(
    case: Explained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, _ = case
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        write(found, tmp_path / "full")
    with pytest.raises(ValueError, match="is a file"):
        write(found, tmp_path / "full" / "thesis.tex")
    with pytest.raises(ValueError, match="groups 13"):
        write(found, tmp_path / "new", groups=13)
    monkeypatch.setattr(files, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(found, tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize(
    ("settings", "frames_alone"),
    [
        ({"name": "vifi_clip"}, True),
        ({"name": "clip"}, True),
        ({"frame_attention": "joint"}, True),
        ({"video_prompting": False}, False),
    ],
)
def test_what_a_model_does_not_have_is_said(
    settings: dict[str, object], frames_alone: bool
) -> None:
    model, video = small_model(**settings).eval(), small_video(1)
    with torch.no_grad():
        _, layers = encode(model, video)
        scores = class_scores(model, NAMES, lambda: model(video).logits[0])
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    found = tcclip.Explanation("clip.mp4", "best", model.config, frames, layers, scores)
    drawn = files.draw(found, [], 8)
    page = drawn["index.html"].decode()
    assert ("chooses no seed patches" in page) == frames_alone
    assert ("no video-conditional prompting" in page) == (not found.config.prompted_layers)
    assert ("Context tokens" in page) != frames_alone
    height = Image.open(io.BytesIO(drawn["animation.gif"])).size[1]
    assert (height < 400) == frames_alone


def test_patches_are_painted_where_they_are() -> None:
    tiles = np.full((2, 40, 40, 3), 200, np.uint8)
    groups = np.full((2, 16), -1)
    groups[0, 3], groups[1, 12], groups[1, 5] = 7, 7, 2
    painted = pictures.group_tiles(tiles, groups, [7])
    colour = painted[0, 5, 35]
    assert (painted[0, :10, 30:] == colour).all() and (painted[1, 30:, :10] == colour).all()
    assert (painted[0, 10:] == painted[0, 39, 0]).all()  # dark
    assert not (painted[1, 15, 15] == colour).all() and painted[1, 15, 15].mean() > 150
    chosen = pictures.seed_tiles(tiles, np.array([[3], [12]]), 16)
    assert (chosen[0, :10, 30:] == 200).all() and chosen[0, 20, 20].max() < 100
    heat = np.zeros((2, 16))
    heat[1, 6] = 1.0
    hot = pictures.heat_tiles(tiles, heat, 1.0)
    assert hot[1, 15, 25].sum() > 1.5 * hot[0, 15, 25].sum()
