"""A predictor says what an evaluation says, of any video, in any words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import tcclip
from tcclip.config import Views
from tcclip.data.annotations import Item
from tcclip.data.clips import EvalClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.loader import EvalLoader
from tcclip.data.loader_pool import LoaderPool
from tcclip.distributed import Ranks
from tcclip.evaluate import EvalList, Evaluator
from tcclip.predict import Predictor
from tcclip.step import autocast
from tests.tcclip.predict.made import make_checkpoint, make_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    make_checkpoint(folder)
    make_clips(folder / "clips")
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return tcclip.load(folder)


def clips(folder: Path) -> list[Path]:
    return sorted((folder / "clips").glob("*.mp4"))


@pytest.mark.parametrize("views", [Views(), Views(clips=2, crops=3)])
def test_scores_are_the_evaluation_s_bit_for_bit(
    folder: Path, predictor: Predictor, views: Views
) -> None:
    items = tuple(Item(path.name, 0) for path in clips(folder))
    one = EvalList("", "", "", items, predictor.class_names, views)

    def loader(_: str, items: Sequence[Item], views: Views) -> EvalLoader:
        made = EvalClips(
            items, (folder / "clips").joinpath, num_frames=predictor.config.num_frames,
            augment=predictor.augment, views=views, seed=predictor.seed, decoder=Decoder(),
        )  # fmt: skip
        return EvalLoader(made, batch=2, pool=LoaderPool(0))

    cpu = torch.device("cpu")
    evaluator = Evaluator(
        loader, predictor.augment, Ranks(0, 1, cpu), lambda: autocast("fp32", cpu)
    )
    expected = evaluator.evaluate({"": predictor.model}, [one])["", 0].values
    found = predictor.predict(clips(folder), views=views.label)
    np.testing.assert_array_equal([one.scores for one in found], expected)
    assert found[0].top[0].probability == expected[0].max() / (views.clips * views.crops)


def test_a_clip_is_the_model_s_input(folder: Path, predictor: Predictor) -> None:
    path = clips(folder)[0]
    video = predictor.clip(path, "2x1")
    assert video.shape == (2, predictor.config.num_frames, 3, 32, 32)
    logits = predictor.model(predictor.clip(path)).logits
    best = predictor.class_names[int(logits.argmax())]
    assert predictor.predict(path).top[0].name == best


def test_other_words_and_templates(folder: Path, predictor: Predictor) -> None:
    path = clips(folder)[0]
    found = predictor.predict(path, classes=["a", "b"], prompts=["film of {}", "{}, seen"], top=9)
    assert sorted(one.name for one in found.top) == ["a", "b"]
    assert sum(one.probability for one in found.top) == pytest.approx(1)
    asked = predictor.question(classes=["a", "b"], prompts=["film of {}", "{}, seen"])
    assert asked.scored.all_names == (("film of a", "a, seen"), ("film of b", "b, seen"))


def test_a_video_that_shows_none_of_the_classes(folder: Path, predictor: Predictor) -> None:
    path = clips(folder)[0]
    best = predictor.predict(path).top[0].probability
    assert predictor.predict(path).rejected is None
    assert predictor.predict(path, reject=best + 1e-6).rejected is True
    assert predictor.predict(path, reject=best).rejected is False
    # Among two, the likelier one; the background is no class that is answered.
    first, second = (one.name for one in predictor.predict(path, top=2).top)
    found = predictor.predict(path, classes=[second], reject=first)
    assert (found.rejected, [one.name for one in found.top]) == (True, [second])
    assert predictor.predict(path, classes=[first], reject=[second, "noise"]).rejected is False


def test_a_broken_video_is_an_error_and_the_others_go_on(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    good = clips(folder)[0]
    found = predictor.predict([text, good, tmp_path / "absent.mp4", good])
    assert [one.error is None for one in found] == [False, True, False, True]
    assert found[2].error == "no such file"
    np.testing.assert_array_equal(found[1].scores, found[3].scores)
    with pytest.raises(UnreadableVideo, match="cannot be opened"):
        predictor.predict(text)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": []}, "class list"),
        ({"classes": "wave"}, "give a list of names"),
        ({"classes": ["wave", ""]}, "is empty"),
        ({"classes": ["w" * 500]}, "shorten the name"),
        ({"classes": ["Push Up", "push_up"]}, "one class to the model"),
        ({"prompts": ["a clip"]}, "write {} once"),
        ({"views": "2x2"}, "clips x crops"),
        ({"top": 0}, "at least one class"),
        ({"window": "4"}, "give a length"),
        ({"window": "0s"}, "give a length"),
        ({"stride": "2s"}, "give their length too"),
        ({"reject": 1.5}, "a probability, 0 to 1"),
        ({"reject": [0.1, 0.2]}, "one threshold"),
        ({"reject": "calibrated"}, "have not been calibrated"),
    ],
)
def test_what_cannot_be_asked_is_said(
    predictor: Predictor, folder: Path, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict(clips(folder)[0], **asked)  # type: ignore[call-overload]
