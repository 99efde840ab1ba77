"""`report --check`: the published numbers fed through are reproduced; two points off are named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from results.reading.collect import collect
from results.records import Measurement
from tests.results import builder
from tests.results.published.test_numbers import as_results

Command = Callable[..., tuple[int, str, str]]
#: Protocol, variant, shots, data set and weights of the numbers that are two points off.
Moved = tuple[str, str, int | None, str, str]


def feed_through(out: Path, moved: Moved | None = None) -> None:
    """Runs with the published numbers; `moved`: those of TC-CLIP that are two points higher."""
    for result in as_results():
        key = result.key

        def value(one: Measurement) -> float:
            place = key.protocol, key.variant, key.shots, one.dataset, one.weights  # noqa: B023
            two = 2 * (key.model == "tc_clip" and place == moved)  # noqa: B023
            return min(100.0, one.value + two)

        numbers = (one.model_copy(update={"value": value(one)}) for one in result.measurements)
        builder.write_result(out, result.model_copy(update={"measurements": tuple(numbers)}))


def test_the_published_numbers_fed_through_pass(tmp_path: Path, tcclip: Command) -> None:
    feed_through(tmp_path)
    code, _, error = tcclip("report", "paper", "--check", "--out", tmp_path, "--format", "csv")
    assert code == 0 and "2 not comparable: none differs" in error, error
    assert "0 complete" not in error and len(collect(tmp_path).finished) > 60


@pytest.mark.parametrize(
    ("moved", "named"),
    [
        (("few_shot", "base", 8, "hmdb51", "raw"),
         "few_shot: TC-CLIP, raw, HMDB-51 K=8: 69.3, published 67.3: +2.0 is more than 1"),
        (("zero_shot", "llm", None, "k600", "ensembled"),
         "zero_shot: TC-CLIP (LLM), ensembled, K-600 top-1: 80.1, published 78.1: +2.0 is more "
         "than 1"),
    ],
)  # fmt: skip
def test_one_that_is_two_points_off_is_named(
    moved: Moved, named: str, tmp_path: Path, tcclip: Command
) -> None:
    feed_through(tmp_path, moved)
    code, _, error = tcclip("report", moved[0], "--check", "--out", tmp_path, "--format", "json")
    assert code == 1 and named in error and "1 numbers differ" in error, error
    run = next((tmp_path / "runs").glob(f"{moved[0]}-*-vifi_clip-*"))
    (run / "result.json").unlink()
    code, _, error = tcclip("report", moved[0], "--check", "--out", tmp_path, "--format", "json")
    assert code == 1 and "not complete" in error


def test_nothing_to_check_does_not_pass(tmp_path: Path, tcclip: Command) -> None:
    (tmp_path / "runs").mkdir()
    code, _, error = tcclip("report", "zero_shot", "--check", "--out", tmp_path)
    assert code == 1 and "nothing could be checked" in error
