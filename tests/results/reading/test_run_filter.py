"""Choosing among the runs there are: status, report and compare take the same options."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import protocols
from results.reading.run_filter import point_of
from results.report.report import report
from results.tables.formats import render
from tests.results import builder

Command = Callable[..., tuple[int, str, str]]
FEW_SHOT, BASE_TO_NOVEL = protocols.get("few_shot"), protocols.get("base_to_novel")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Few-shot and base-to-novel runs on HMDB-51 and UCF-101; two of them named."""
    for dataset in ("hmdb51", "ucf101"):
        for model, variant in (("tc_clip", "base"), ("tc_clip", "llm"), ("vifi_clip", "base")):
            for seed in (0, 1):
                for protocol, axis in ((FEW_SHOT, "shots"), (BASE_TO_NOVEL, "base_split")):
                    for value in (2, 3) if axis == "base_split" else (2, 4):
                        of = builder.key(
                            protocol, dataset=dataset, model=model, variant=variant, seed=seed,
                            **{axis: value},
                        )  # fmt: skip
                        made = builder.result(protocol, of, lambda *_, v=40.0 + value: v)
                        folder = builder.write_result(tmp_path, made)
                        if (model, value) == ("vifi_clip", 4):
                            (folder / "name.txt").write_text("my baseline\n")
    (tmp_path / "runs" / "no-run").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ((), 49),
        (("--protocol", "few_shot"), 24),
        (("--datasets", "hmdb51"), 24),
        (("--models", "vifi_clip,clip"), 16),
        (("--variants", "llm"), 16),
        (("--shots", "4"), 12),
        (("--splits", "2-3"), 24),
        (("--seeds", "1", "--shots", "2,4"), 12),
        (("--name", "my*"), 4),
        (("--name", "my baseline", "--datasets", "ucf101", "--seeds", "0"), 1),
        (("--run", "few_shot-*-s0-*"), 12),
        (("--run", "no-*"), 1),
        (("--models", "nothing"), 0),
        (("--run", "no-such"), 0),
        (("--name", "your*"), 0),
    ],
)
def test_status_shows_the_runs_that_are_meant(
    options: tuple[str, ...], number: int, out: Path, tcclip: Command
) -> None:
    code, text, error = tcclip("status", "--out", out, "--format", "json", *options)
    assert code == 0 and len(json.loads(text)) == number
    said = "nothing" in options or "clip" in str(options)
    assert ("no run has --models" in error) == said, error
    assert number or " ".join(options) in error, error


def rows(tcclip: Command, out: Path, *options: str) -> tuple[set[str], set[str], list[str]]:
    """(rows of ours, columns, remarks) of the few-shot report."""
    code, text, error = tcclip("report", "few_shot", "--out", out, "--format", "json", *options)
    assert code == 0, error
    data = json.loads(text)
    ours = {row["title"] for row in data["rows"] if row["method"] and
            any(cell["ours"] for cell in row["cells"])}  # fmt: skip
    return ours, {f"{c['dataset']} {c['part']}" for c in data["columns"]}, data["remarks"]


def test_a_report_has_the_columns_and_rows_that_are_meant(out: Path, tcclip: Command) -> None:
    ours, columns, remarks = rows(tcclip, out)
    everything = {f"{data} K={k}" for data in ("hmdb51", "ucf101") for k in (2, 4)}
    assert columns == everything and len(ours) == 3 and remarks == []
    ours, columns, remarks = rows(tcclip, out, "--datasets", "ucf101", "--shots", "2")
    assert columns == {"ucf101 K=2"} and remarks == ["Left out by --datasets, --shots: 19 runs"]
    assert rows(tcclip, out, "--variants", "llm")[0] == {"TC-CLIP (LLM)"}
    ours, columns, remarks = rows(tcclip, out, "--name", "my baseline")
    assert ours == {"my baseline"} and columns == {"hmdb51 K=4", "ucf101 K=4"}
    assert rows(tcclip, out, "--run", "*-s1-*")[2] == ["Left out by --run: 13 runs"]
    _, columns, remarks = rows(tcclip, out, "--datasets", "ssv2")
    assert columns == {f"ssv2 K={k}" for k in (2, 4, 8, 16)}, "asked for, though nobody trained"
    assert remarks[0] == "no run has --datasets ssv2"
    _, _, remarks = rows(tcclip, out, "--models", "nothing")
    assert remarks[0] == "no run has --models nothing; there are: tc_clip, vifi_clip"
    code, _, error = tcclip("report", "few_shot", "--out", out, "--splits", "1")
    assert code == 2 and "few_shot has no --splits" in error


def test_published_rows_stand_beside_what_was_trained(
    out: Path, tcclip: Command, tmp_path: Path
) -> None:
    report_of = ("report", "few_shot", "--format", "csv")
    assert "ssv2" not in tcclip(*report_of, "--out", out)[1]
    assert "ssv2" in tcclip(*report_of, "--out", out, "--published", "all")[1]
    assert ",published," not in tcclip(*report_of, "--out", out, "--published", "none")[1]
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    for format in ("terminal", "md", "html", "latex"):
        code, text, _ = tcclip(*report_of[:2], "--out", tmp_path / "empty", "--format", format)
        assert code == 0 and "--published all" in text.replace("-{}-", "--")


def test_base_splits_that_are_left_out_have_no_published_difference(
    out: Path, tcclip: Command
) -> None:
    command = ("report", "base_to_novel", "--out", out, "--format", "json", "--datasets", "ucf101")
    (part, whole) = (json.loads(tcclip(*command, *more)[1]) for more in (("--splits", "2"), ()))
    ours = [cell for row in part["rows"] for cell in row["cells"] if cell["ours"]]
    assert ours and all(cell["ours"]["paper"]["n"] == 1 for cell in ours)
    assert all(cell["published"] is None for cell in ours)
    assert "base split 1: no such run" in str(whole["rows"])


def test_failed_and_superseded_tries_are_counted_below(tmp_path: Path) -> None:
    protocol = protocols.get("few_shot", demo=True)
    good = builder.key(protocol, shots=4, seed=0)
    builder.write_result(tmp_path, builder.result(protocol, good, lambda *_: 60.0))
    failed = good.model_copy(update={"overrides": ("train.lr=1.0",)})
    builder.write_failure(tmp_path, failed, "FloatingPointError: the loss is nan")
    shown = report(tmp_path, "few_shot", demo=True)
    assert shown.complete and [row.title for row in shown.rows] == ["TC-CLIP"]
    for format in ("terminal", "md", "latex", "html"):
        text = " ".join(render(shown, format, width=200).replace("\\_", "_").split())
        assert "TC-CLIP [train.lr=1.0] (1 failed)" in text, format
    assert "loss is nan" not in render(shown, "terminal")
    # Where nothing else is there, why it failed is told.
    (tmp_path / "runs" / builder.run_id(good) / "result.json").unlink()
    (tmp_path / "runs" / builder.run_id(good)).rename(tmp_path / "gone")
    assert "loss is nan" in render(report(tmp_path, "few_shot", demo=True), "terminal")


def test_compare_takes_names_and_filters(tmp_path: Path, tcclip: Command) -> None:
    protocol = protocols.get("few_shot", demo=True)
    for number, (model, shots) in enumerate((m, k) for m in ("tc_clip", "clip") for k in (4, 8)):
        of = builder.key(protocol, model=model, shots=shots, seed=0)
        folder = builder.write_result(tmp_path, builder.result(protocol, of, lambda *_: 50.0))
        builder.write_scores(folder, "moving_shapes", "val", labels=[0, 1, 2] * 9, classes=3,
                             right=0.5 + number / 10, seed=number)  # fmt: skip
        if model == "tc_clip":
            (folder / "name.txt").write_text("mine: the best")
    command = ("compare", "mine: the best", "clip", "--protocol", "few_shot", "--demo", "--out",
               tmp_path, "--format", "json")  # fmt: skip
    code, text, error = tcclip(*command)
    assert code == 0, error
    assert json.loads(text)["a"] == "mine: the best, raw, best epoch"
    assert [one["part"] for one in json.loads(text)["differences"]] == ["K=4", "K=8"]
    (one,) = json.loads(tcclip(*command, "--shots", "8", "--datasets", "moving_shapes")[1])[
        "differences"
    ]
    assert one["part"] == "K=8"
    code, _, error = tcclip(*command, "--seeds", "1")
    assert code == 2 and "no complete model of" in error
    twice = builder.key(protocol, model="tc_clip", shots=4, seed=0, overrides=("train.lr=1",))
    folder = builder.write_result(tmp_path, builder.result(protocol, twice, lambda *_: 50.0))
    (folder / "name.txt").write_text("mine: the best")
    code, _, error = tcclip(*command)
    assert code == 2 and "is the name of several rows: TC-CLIP, TC-CLIP [train.lr=1]" in error


def test_run_ids_say_their_points() -> None:
    assert point_of("few_shot-my-own-data-tc_clip-llm-k4-s12-0123456789") == {
        "protocol": "few_shot", "datasets": "my-own-data", "models": "tc_clip", "variants": "llm",
        "shots": 4, "splits": None, "seeds": 12,
    }  # fmt: skip
    assert point_of("base_to_novel-k400-clip-base-b3-s0-0123456789")["splits"] == 3
    assert point_of("zero_shot-k400-clip-base-s0") == {}
