"""Whatever is wrong with one run is named in the report and changes no other row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import protocols
from results.report.report import Report, report
from results.tables.formats import FORMATS, render
from tests.results import builder

PROTOCOL = protocols.get("zero_shot")
DIGEST = "hmdb51/datasets_splits/hmdb_splits/val1.txt"
#: The run that is damaged, and what it is called in the table.
VICTIM = builder.key(PROTOCOL, model="vifi_clip", seed=1)
TITLE = "ViFi-CLIP"


def value(suite: str, split: str, metric: str, weights: str, checkpoint: str) -> float:
    return 50.0 + int(split[-1])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three models x two seeds, all well."""
    for model in ("clip", "vifi_clip", "tc_clip"):
        for seed in (0, 1):
            of = builder.key(PROTOCOL, model=model, seed=seed)
            one = builder.result(PROTOCOL, of, value, prov={"digests": {DIGEST: "a" * 64}})
            builder.write_result(tmp_path / "out", one)
    return tmp_path / "out"


def victim(out: Path) -> Path:
    return out / "runs" / builder.run_id(VICTIM) / "result.json"


def truncate(out: Path) -> None:
    text = victim(out).read_text()
    victim(out).write_text(text[: len(text) // 2])


def empty(out: Path) -> None:
    victim(out).write_text("")


def other_schema(out: Path) -> None:
    text = victim(out).read_text()
    victim(out).write_text(text.replace('"schema_version": 1', '"schema_version": 2'))


def duplicate(out: Path) -> None:
    shutil.copytree(victim(out).parent, out / "runs" / "copy")


def split_missing(out: Path) -> None:
    one = builder.result(PROTOCOL, VICTIM, value, prov={"digests": {DIGEST: "a" * 64}})
    kept = tuple(m for m in one.measurements if (m.dataset, m.split) != ("ucf101", "val2"))
    builder.write_result(out, one.model_copy(update={"measurements": kept}))


def seed_missing(out: Path) -> None:
    shutil.rmtree(victim(out).parent)


def not_a_number(out: Path) -> None:
    text = victim(out).read_text()
    victim(out).write_text(text.replace('"value": 52.0', '"value": NaN', 1))


def other_annotations(out: Path) -> None:
    builder.write_result(
        out, builder.result(PROTOCOL, VICTIM, value, prov={"digests": {DIGEST: "b" * 64}})
    )


def other_batch(out: Path) -> None:
    builder.write_result(out, builder.result(PROTOCOL, VICTIM, value, prov={"global_batch": 64}))


def unreadable_videos(out: Path) -> None:
    builder.write_result(
        out, builder.result(PROTOCOL, VICTIM, value, prov={"videos_unreadable": 7})
    )


def dirty(out: Path) -> None:
    builder.write_result(out, builder.result(PROTOCOL, VICTIM, value, prov={"git_dirty": True}))


def rerun_with_other_numbers(out: Path) -> None:
    """A second result for the same point of the grid, under another run_id."""
    one = builder.result(PROTOCOL, VICTIM, lambda *_: 10.0)
    folder = out / "runs" / "another-id"
    folder.mkdir()
    record = one.model_copy(update={"run_id": "another-id"})
    (folder / "result.json").write_text(record.model_dump_json())


MUTATIONS: dict[Callable[[Path], None], str] = {
    truncate: "half-written",
    empty: "half-written: 0 bytes",
    other_schema: "schema version 2; this version reads 1",
    duplicate: "runs/copy/result.json: is the result of",
    split_missing: "seed 1: no number for split val2 (ucf101, views 2x1)",
    seed_missing: "ViFi-CLIP: no run with seed 1, which other rows have",
    not_a_number: "Input should be a finite number",
    other_annotations: f"ViFi-CLIP: another {DIGEST} than the other runs (sha256 bbbbbbbbbbbb",
    other_batch: "ViFi-CLIP: global batch 64, the protocol's is 256 (seed 1)",
    unreadable_videos: "ViFi-CLIP: 7 of 1000 videos unreadable, counted as wrong (seed 1)",
    dirty: "ViFi-CLIP: code with uncommitted changes (seed 1)",
    rerun_with_other_numbers: "stands for the same point of the grid as",
}


def rows(shown: Report, *, of_victim: bool) -> list[str]:
    """The printed lines of the victim's rows, or of all others, without footnote marks."""
    found, mine = [], False
    for line in render(shown, "csv").splitlines()[1:]:
        mine = line.split(",")[1] == TITLE
        if mine == of_victim:
            found.append(line)
    return found


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_it_is_named_and_changes_no_other_row(out: Path, mutate: Callable[[Path], None]) -> None:
    before = rows(report(out, "zero_shot"), of_victim=False)
    mutate(out)
    shown = report(out, "zero_shot")
    assert rows(shown, of_victim=False) == before
    for format in ("terminal", "md"):
        text = " ".join(render(shown, format, width=2000).split())
        assert MUTATIONS[mutate] in text, f"not named in {format}"


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "csv"])
def test_every_format_names_a_cut_result(out: Path, format: str) -> None:
    truncate(out)
    text = render(report(out, "zero_shot"), format, width=2000)
    assert "half-written" in text and builder.run_id(VICTIM) in text


def test_only_the_data_set_of_the_other_list_is_footnoted(out: Path) -> None:
    other_annotations(out)
    (row,) = [r for r in report(out, "zero_shot").rows if r.title == TITLE and r.weights == "raw"]
    assert [bool(cell.notes) for cell in row.cells] == [True, False, False]


def test_what_holds_for_all_runs_is_said_once(out: Path) -> None:
    for model in ("clip", "vifi_clip", "tc_clip"):
        for seed in (0, 1):
            of = builder.key(PROTOCOL, model=model, seed=seed)
            changed = {"git_dirty": True, "git_commit": str(seed) * 40}
            builder.write_result(out, builder.result(PROTOCOL, of, value, prov=changed))
    shown = report(out, "zero_shot")
    assert not [note for note in shown.notes if "commit" in note]
    assert shown.general == (
        "Computed with 2 commits: 000000000000, 111111111111",
        "All runs: code with uncommitted changes",
    )
    assert "All runs: code with uncommitted changes." in render(shown, "md")


def test_what_holds_for_several_rows_is_one_footnote(out: Path) -> None:
    for model in ("vifi_clip", "tc_clip"):
        of = builder.key(PROTOCOL, model=model, seed=1)
        builder.write_result(out, builder.result(PROTOCOL, of, value, prov={"git_dirty": True}))
    shown = report(out, "zero_shot")
    (note,) = [n for n, text in enumerate(shown.notes, start=1) if "uncommitted" in text]
    assert shown.notes[note - 1] == "code with uncommitted changes (seed 1)"
    marked = {row.title for row in shown.rows for cell in row.cells if note in cell.notes}
    assert marked == {"ViFi-CLIP", "TC-CLIP"}
