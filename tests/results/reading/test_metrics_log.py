"""One rule for a torn or damaged line of metrics.jsonl, whoever reads it."""

import json

import pytest

from results.reading.metrics_log import read_epochs, read_records


def line(kind: str, step: int, **more: object) -> bytes:
    return json.dumps({"kind": kind, "step": step, "time": 1.5, **more}).encode() + b"\n"


FILE = line("start", 0) + line("step", 1) + line("step", 2) + line("epoch", 2, epoch=1, loss=0.5)


def test_records_come_in_the_order_of_the_file() -> None:
    records, damaged = read_records(FILE)
    assert [(one["kind"], one["step"]) for one in records] == [
        ("start", 0), ("step", 1), ("step", 2), ("epoch", 2),
    ]  # fmt: skip
    assert damaged == 0
    thinned, _ = read_records(FILE + line("step", 3), all_steps=False)
    assert [one["step"] for one in thinned] == [0, 2, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"kind": "step", "st',
        b'{"kind": "step", "st' + line("step", 3),  # a full disk: the rest never came
        line("step", 3)[:-1],  # being written just now
        b"[1, 2]\n",
        b"\xff\n",
        b'{"kind": "step", "step": 3}\n',
        b'{"kind": "step", "step": "3", "time": 1.5}\n',
        b'{"kind": "step", "step": 3, "time": "1.5"}\n',
        b'{"kind": "step", "step": 3, "time": 1e30}\n',
    ],
)
@pytest.mark.parametrize("all_steps", [True, False])
def test_a_damaged_line_is_skipped_and_counted(bad: bytes, all_steps: bool) -> None:
    whole, _ = read_records(FILE, all_steps)
    assert read_records(FILE + bad, all_steps) == (whole, 1)


def test_an_epoch_without_its_numbers_is_damaged() -> None:
    good = line("epoch", 4, epoch=2, loss=0.25, top1=50.0)
    epochs, damaged = read_epochs(FILE + line("epoch", 3, epoch=2, loss="low") + good)
    assert [one["epoch"] for one in epochs] == [1, 2]
    assert damaged == 1
