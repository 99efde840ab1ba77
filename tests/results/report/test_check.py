"""`report --check`: the published numbers fed through are reproduced; two points off are named."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import protocols
from results.published.numbers import PublishedNumber, published
from results.reading.collect import collect
from results.records import RunKey
from results.statistics.columns import HARMONIC
from tests.results import builder

Command = Callable[..., tuple[int, str, str]]
Moved = tuple[str, str, str, str]


def ours() -> Iterator[PublishedNumber]:
    """The published numbers of models of this project that are no harmonic means."""
    for one in published():
        if one.model in ("tc_clip", "vifi_clip", "clip") and one.part != HARMONIC:
            yield one


def feed_through(out: Path, moved: Moved | None = None) -> None:
    """Runs with the published numbers; `moved`: (protocol, variant, data set, part) two points."""
    figures: dict[tuple[object, ...], float] = {}
    keys: dict[RunKey, None] = {}
    for one in ours():
        protocol = protocols.get(one.protocol)
        weights = "ensembled" if one.ensembled else "raw"
        two = 2.0 if (one.protocol, one.variant, one.dataset, one.part) == moved else 0.0
        place = (one.protocol, one.model, one.variant, one.dataset, one.part, weights)
        figures[place] = one.value + two * (one.model == "tc_clip")
        trained_on = "k400" if one.protocol == "zero_shot" else one.dataset
        for value in protocol.axis_values or (None,):
            axis = {} if protocol.axis is None else {protocol.axis: value}
            keys[
                builder.key(
                    protocol, dataset=trained_on, model=one.model, variant=one.variant, **axis
                )
            ] = None
    for of in keys:
        protocol = protocols.get(of.protocol)

        def value(suite: str, split: str, metric: str, weights: str, checkpoint: str) -> float:
            data = of.dataset if suite in ("base", "novel") else suite  # noqa: B023
            part = suite if suite in ("base", "novel") else metric
            part = f"K={of.shots}" if of.shots else part  # noqa: B023
            place = (of.protocol, of.model, of.variant, data, part, weights)  # noqa: B023
            return figures.get(place, 1.0)

        builder.write_result(out, builder.result(protocol, of, value))


def test_the_published_numbers_fed_through_pass(tmp_path: Path, tcclip: Command) -> None:
    feed_through(tmp_path)
    code, _, error = tcclip("report", "paper", "--check", "--out", tmp_path, "--format", "csv")
    assert code == 0 and "1 not comparable: none differs" in error, error
    assert "0 complete" not in error and len(collect(tmp_path).finished) > 60


@pytest.mark.parametrize(
    ("moved", "named"),
    [
        (("few_shot", "base", "hmdb51", "K=8"),
         "few_shot: TC-CLIP, raw, HMDB-51 K=8: 69.3, published 67.3: +2.0 is more than 1"),
        (("zero_shot", "llm", "k600", "top1"),
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
