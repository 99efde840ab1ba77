"""The table's columns of users' own data sets come from their runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import protocols
from protocols.protocol import Protocol
from results.reading.run_filter import RunFilter
from results.report.report import Report, report
from results.report.shown import Shown
from results.statistics.columns import Column
from tests.results import builder


def write(
    out: Path, protocol: Protocol, tests: Mapping[tuple[str, str], float], finished: str, **key: Any
) -> None:
    """A finished run on the data set `mine`; `tests`: (suite, split) -> percent right."""
    of = builder.key(protocol, dataset="mine", **key)
    finished = f"2026-01-0{finished}T00:00:00+00:00"
    builder.write_result(out, builder.own_result(protocol, of, tests, finished=finished))


def own(made: Report) -> list[Column]:
    return [column for column in made.columns if column.dataset == "mine"]


def values(made: Report, title: str) -> dict[str, float | None]:
    """Column -> mean of our row called `title`, on the data set `mine`."""
    (row,) = [one for one in made.rows if one.method is not None and one.title == title]
    found = {}
    for column, cell in zip(made.columns, row.cells, strict=True):
        if column.dataset == "mine" and cell.ours is not None:
            found[column.part] = cell.ours.paper and cell.ours.paper.mean
    return found


def test_shots_are_those_of_the_runs(tmp_path: Path) -> None:
    protocol = protocols.get("few_shot")
    for shots, value in ((20, 80.0), (3, 30.0)):
        write(tmp_path, protocol, {("mine", "test"): value}, "1", shots=shots)
    builder.write_spec(tmp_path, builder.key(protocol, dataset="mine", shots=5))
    made = report([tmp_path], "few_shot")
    assert [(one.part, one.units, one.chance) for one in own(made)] == [
        ("K=3", ("test",), 20.0), ("K=5", ("test",), 20.0), ("K=20", ("test",), 20.0),
    ]  # fmt: skip
    assert values(made, "TC-CLIP") == {"K=3": 30.0, "K=5": None, "K=20": 80.0}
    assert {one.dataset for one in made.columns} == {"mine"}, "published rows of data nobody used"


def test_base_splits_are_those_of_the_runs_unfinished_ones_too(tmp_path: Path) -> None:
    protocol = protocols.get("base_to_novel")
    for split in (1, 4):
        tests = {("base", "base_test"): 60.0, ("novel", "novel_val"): 30.0}
        write(tmp_path, protocol, tests, "1", base_split=split)
    made = report([tmp_path], "base_to_novel")
    assert [(one.part, one.units) for one in own(made)] == [
        ("base", ("s1", "s4")), ("novel", ("s1", "s4")), ("HM", ("s1", "s4")),
    ]  # fmt: skip
    assert values(made, "TC-CLIP") == {"base": 60.0, "novel": 30.0, "HM": 40.0}
    builder.write_spec(tmp_path, builder.key(protocol, dataset="mine", base_split=2))
    assert values(report([tmp_path], "base_to_novel"), "TC-CLIP")["base"] is None


def test_zero_shot_averages_over_the_test_lists_of_the_newest_run(tmp_path: Path) -> None:
    """Which lists the data set had before says nothing of what it has now."""
    protocol = protocols.get("zero_shot")
    write(tmp_path, protocol, {("mine", "val"): 90.0}, "1", seed=1)
    tests = {("mine", "test1"): 20.0, ("mine", "test2"): 40.0}
    write(tmp_path, protocol, tests, "2", seed=2)
    made = report([tmp_path], "zero_shot", shown=Shown(RunFilter(seeds=(2,))))
    (column,) = own(made)
    assert column.units == ("test1", "test2")
    assert values(made, "TC-CLIP") == {"top1": 30.0}
    assert made.protocol.title == "Zero-shot", "it was not trained on K-400"


def test_llm_names_of_own_data(tmp_path: Path) -> None:
    protocol = protocols.get("few_shot")
    write(tmp_path, protocol, {("mine", "test"): 50.0}, "1", shots=3)
    write(tmp_path, protocol, {("mine", "test"): 60.0}, "1", shots=3, variant="llm")
    write(tmp_path, protocol, {("mine", "test"): 70.0}, "1", shots=5)
    made = report([tmp_path], "few_shot")
    assert values(made, "TC-CLIP") == {"K=3": 50.0, "K=5": 70.0}
    assert values(made, "TC-CLIP (LLM)") == {"K=3": 60.0}, "the base row is not repeated"
    assert not any("no LLM names" in note for note in made.notes)
