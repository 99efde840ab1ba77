"""Scores with and without video-conditional prompting."""

import numpy as np
import pytest
import torch

from tcclip.explanation.prompting import class_scores
from tests.tcclip.model.builders import NAMES, small_model, small_video
from tests.tcclip.model.oracle import Oracle


@pytest.mark.parametrize("layers", [(3,), (1, 3)])
def test_without_prompting_the_learned_vectors_are_the_prompt(layers: tuple[int, ...]) -> None:
    model = small_model(prompt_layers=layers, dtype=torch.float64).eval()
    video = small_video(1, dtype=torch.float64)
    with torch.no_grad():
        found = class_scores(model, NAMES, lambda: model(video).logits[0])
        oracle = Oracle(model)
        feature = model.encode_video(video).feature[0]
        # Without a context, its text tower leaves the prompt vectors alone.
        expected = model.logit_scale.exp() * oracle.text([]) @ feature
        assert torch.equal(model(video).logits[0].float(), torch.from_numpy(found.logits))
    np.testing.assert_allclose(found.unprompted, expected, rtol=1e-5)
    assert np.abs(found.logits - found.unprompted).max() > 1e-3
    assert found.gains.sum() == pytest.approx(0, abs=1e-6)
    most = found.most_changed(2)
    assert abs(found.gains[most[0]]) == np.abs(found.gains).max()


@pytest.mark.parametrize("settings", [{"video_prompting": False}, {"name": "vifi_clip"}])
def test_a_model_without_prompting_has_one_score(settings: dict) -> None:
    model = small_model(**settings).eval()
    with torch.no_grad():
        found = class_scores(model, NAMES, lambda: model(small_video(1)).logits[0])
    assert found.unprompted is None and found.gains is None and found.most_changed(3) == []
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.logits[found.best(1)[0]] == found.logits.max()
