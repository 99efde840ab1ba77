"""Temperature, threshold and calibration error, against numbers made to be known."""

import numpy as np
import pytest

from tcclip.predict.calibration import calibrate, expected_calibration_error, tempered


def softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(found / found.sum(1, keepdims=True))


def made(temperature: float, videos: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure by `temperature`, of labels drawn from the honest ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (videos, 5))
    labels = np.array([rng.choice(5, p=row) for row in softmax(logits)])
    return softmax(logits * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    probabilities, labels = made(temperature)
    found = calibrate(probabilities, labels, keep=0.95, data="made", views="1x1")
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.ece_after < 0.03
    if temperature != 1:
        assert found.ece_before > 3 * found.ece_after
        assert found.nll_after < found.nll_before
    right = probabilities.argmax(1) == labels
    passed = found.apply(probabilities).max(1) >= found.threshold
    assert passed[right].mean() == pytest.approx(0.95, abs=0.001)
    assert passed[~right].mean() == pytest.approx(found.kept_wrong)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    # In one bin: confidence 0.8, three of four right.
    error = expected_calibration_error(probabilities, np.array([0, 1, 0, 1]), bins=1)
    assert error == pytest.approx(0.8 - 0.75)
    error = expected_calibration_error(probabilities, np.array([0, 1, 0, 1]), bins=10)
    assert error == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.8 - 1)) / 4)


def test_a_probability_of_zero_stays_possible() -> None:
    found = tempered(np.array([[1.0, 0.0]], np.float32), 2.0)
    assert np.isfinite(found).all() and found[0, 0] > 0.999


@pytest.mark.parametrize(
    ("labels", "keep", "message"),
    [([], 0.9, "needs videos"), ([1, 1], 0.9, "right list"), ([0, 0], 0.0, "keep 0")],
)
def test_what_cannot_be_calibrated(labels: list[int], keep: float, message: str) -> None:
    probabilities = np.tile(np.array([0.9, 0.1]), (len(labels), 1)).reshape(-1, 2)
    with pytest.raises(ValueError, match=message):
        calibrate(probabilities, np.array(labels, int), keep=keep, data="", views="1x1")
