"""Whatever lies in a run folder: one message, and the other runs are shown as before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.report.report import report
from results.tables.formats import FORMATS, render
from tests.results.compare.test_compare import write_demo_run

Command = Callable[..., tuple[int, str, str]]
BOMB = "[" * 100_000
RECORDS = ("spec.json", "result.json", "failure.json", "paused.json", "metrics.jsonl",
           "lease-000001.json", "stopped.json")  # fmt: skip
START = {"kind": "start", "step": 0, "time": 1.0}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def nested(path: Path) -> None:
    path.write_text(f'{{"schema_version": 1, "key": {BOMB}\n')


def not_utf8(path: Path) -> None:
    path.write_bytes(b'{"key": {"protocol": "zero_shot", "model": "\xed\xa0\x80\xff"}}\n')


def surrogate(path: Path) -> None:
    path.write_text('{"key": {"protocol": "zero_shot", "model": "\\ud800", "seed": 0}}\n')


def digits(path: Path) -> None:
    path.write_text(f'{{"kind": "step", "step": {"9" * 5000}, "time": 1}}\n')


def wrong_types(path: Path) -> None:
    step = {"kind": "step", "step": 1, "time": 2.0, "loss": "a", "epoch": {}}
    start = {**START, "device": 5, "workers": [], "host": "\x1b[31m", "epochs": "x"}
    path.write_text("".join(json.dumps(one) + "\n" for one in (start, step)))


WAYS = (pipe, folder, device, link_to_itself, huge, nested, not_utf8, surrogate, digits,
        wrong_types)  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two methods' runs with scores, both well."""
    for model in ("tc_clip", "vifi_clip"):
        write_demo_run(tmp_path / "out", model)
    return tmp_path / "out"


def compared(tcclip: Command, out: Path) -> str:
    """What `compare` prints of the two runs."""
    code, text, error = tcclip(
        "compare", "tc_clip", "vifi_clip", "--protocol", "zero_shot", "--demo", "--out", out
    )
    assert code == 0, error
    return text


def shown(tcclip: Command, out: Path) -> tuple[str, ...]:
    """What the commands print of the two runs, each of which must be there."""
    code, status, error = tcclip("status", "--out", out)
    assert code == 0 and "2 finished" in status, status + error
    code, report, error = tcclip("report", "zero_shot", "--demo", "--out", out)
    assert code == 0 and "TC-CLIP" in report, report + error
    texts = status, report, compared(tcclip, out)
    for text in texts:
        text.encode()
        assert "\x1b" not in text and "Traceback" not in text
    return texts


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_damaged_file_takes_no_other_run_with_it(way: Callable[[Path], None], out: Path,
                                                   tcclip: Command) -> None:  # fmt: skip
    """One folder for each of a run's records, and one of which all are damaged."""
    before = compared(tcclip, out)
    for names in (*([name] for name in RECORDS), RECORDS):
        damaged = out / "runs" / f"zero_shot-damaged-{len(names)}-{names[0]}"
        damaged.mkdir()
        for name in names:
            way(damaged / name)
    status, report, after = shown(tcclip, out)
    assert after.splitlines()[:8] == before.splitlines()[:8]
    assert "zero_shot-damaged-1-result.json" in report
    assert status.count("damaged-") >= len(RECORDS)
    code, dry, error = tcclip("sweep", "zero_shot", "--demo", "--dry-run", "--out", out)
    assert code == 0 and "planned" in dry, error


@pytest.mark.parametrize(
    "name", [b"zero_shot-\xff\xfe-s0", b"zero_shot-\x1b[31m-\n-s0", b"a" * 255]
)
def test_names_of_run_folders_are_shown_safely(name: bytes, out: Path, tcclip: Command) -> None:
    folder = out / "runs" / os.fsdecode(name)
    folder.mkdir()
    (folder / "failure.json").write_text("{")
    shown(tcclip, out)
    made = report(out, "zero_shot", demo=True)
    for format in FORMATS:
        text = render(made, format) if format != "html" else ""  # figures take their time
        text.encode()
        assert "\x1b[31m" not in text


def scores(**columns: object) -> pa.Table:
    """The scores of three videos of a split with two classes, but for `columns`."""
    plain = {"video": ["a", "b", "c"], "label": [0, 1, 0], "readable": [True] * 3,
             "checkpoint": ["best"] * 3, "weights": ["raw"] * 3,
             "scores": [[0.1, 0.9]] * 3}  # fmt: skip
    return pa.table(plain | columns)


@pytest.mark.parametrize(
    "made",
    [
        pipe, folder, device, huge, not_utf8,
        lambda path: pq.write_table(scores(label=[-1, 7, 10**12]), path),
        lambda path: pq.write_table(scores(label=["x", "y", "z"]), path),
        lambda path: pq.write_table(scores(label=[0, None, 1]), path),
        lambda path: pq.write_table(scores(scores=["x", "y", "z"]), path),
        lambda path: pq.write_table(scores(scores=[[1.0], [1.0, 2.0], []]), path),
        lambda path: pq.write_table(scores(video=[1, 2, 3]), path),
        lambda path: pq.write_table(scores().drop(["readable"]), path),
        lambda path: pq.write_table(
            scores().replace_schema_metadata({"class_names": BOMB}), path),
        lambda path: pq.write_table(
            scores().replace_schema_metadata({"class_names": '["only one"]'}), path),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_used_are_named(
    made: Callable[[Path], None], out: Path, tcclip: Command
) -> None:
    file = next(out.glob("runs/*vifi_clip*/predictions/*/*.parquet"))
    file.unlink()
    made(file)
    arguments = ("compare", "tc_clip:raw", "vifi_clip:raw", "--protocol", "zero_shot", "--demo")
    code, text, error = tcclip(*arguments, "--out", out)
    assert file.name in text + error and "Traceback" not in error, text + error
    assert code in (0, 2)


@pytest.mark.slow
def test_figures_leave_out_what_cannot_be_used(out: Path, tcclip: Command) -> None:
    run = next(out.glob("runs/*vifi_clip*"))
    pipe(run / "metrics.jsonl")
    files = sorted(run.glob("predictions/*/*.parquet"))
    for file, made in zip(files, (pipe, not_utf8), strict=False):
        file.unlink()
        made(file)
    code, _, error = tcclip("report", "zero_shot", "--demo", "--out", out, "--write", out / "t")
    assert code == 0 and len(list((out / "t").iterdir())) >= 6, error
