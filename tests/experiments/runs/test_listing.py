"""`tcclip runs list` and `show`, `sweep --only`, and `explain-protocol`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import protocols
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store.attempt_records import record_failure
from experiments.store.ledger import Ledger
from tests.experiments.sweeping import small_specs

Command = Callable[..., tuple[int, str, str]]


def test_runs_are_listed_and_shown(again: tuple[Path, RunSpec], tcclip: Command) -> None:
    out, spec = again
    (other,) = small_specs(train__lr=0.5)
    Ledger(out).add([other])
    record_failure(Ledger(out).folder(other.run_id), "Boom", "boom\x1b[2J", "")
    code, text, _ = tcclip("runs", "list", "--out", out)
    assert code == 0 and text.startswith("2 runs: 1 finished, 1 failed; ")
    assert (
        tcclip("runs", "list", "--state", "failed", "--out", out, "--format", "md")[1].count(
            "zero_shot-"
        )
        == 1
    )
    rows = json.loads(tcclip("runs", "list", spec.run_id, "--out", out, "--format", "json")[1])
    files = [one for one in Ledger(out).folder(spec.run_id).path.rglob("*") if one.is_file()]
    assert [row["bytes"] for row in rows] == [sum(one.stat().st_size for one in files)]
    text = tcclip("runs", "show", spec.run_id, "--out", out)[1]
    for part in ("train.epochs=2", "1 x cpu", "epoch 2 of 2", "best raw", "last.pt", "finished in"):
        assert part in text
    text = tcclip("runs", "show", other.run_id, "--out", out)[1]
    assert "train.lr=0.5" in text and "boom" in text and "\x1b" not in text
    assert "matches 2 runs, name one" in tcclip("runs", "show", "*", "--out", out)[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to run: a protocol, a grid file, or runs with --only"),
        (("--only", "nothing"), "matches no run of"),
        (("--only", "*", "--seeds", "1"), "--seeds chooses among a protocol's runs"),
        (("--only", "*", "--set", "train.lr=1"), "keep their settings"),
        (("--only", "*"), "matches runs of several protocols"),
        (("--only", "zero_shot*"), "needs the weights with sha256 aaa"),
        (("zero_shot", "--demo", "--only", "nothing"), "matches no run of the grid"),
    ],
)
def test_only_says_what_it_cannot_do(
    options: tuple[str, ...], message: str, tmp_path: Path, tcclip: Command
) -> None:
    (spec,) = small_specs()
    few = expand(Grid("few_shot", demo=True, models=("tc_clip",)))
    Ledger(tmp_path).add([spec.model_copy(update={"checkpoint": "a" * 64}), *few])
    code, _, error = tcclip("sweep", *options, "--out", tmp_path, "--dry-run")
    assert code == 2 and message in error, error


def test_only_asks_for_the_file_of_an_own_data_set(tmp_path: Path, tcclip: Command) -> None:
    (spec,) = small_specs()
    own = spec.train_list.model_copy(update={"dataset": "gestures"})
    Ledger(tmp_path).add([spec.model_copy(update={"train_list": own})])
    code, _, error = tcclip("sweep", "--only", "zero_shot*", "--out", tmp_path, "--dry-run")
    assert code == 2 and "needs the data set 'gestures': give its file with --dataset-file" in error


def test_only_takes_runs_of_a_grid_or_of_the_folder_with_their_parents(
    tmp_path: Path, tcclip: Command
) -> None:
    grid = Grid("few_shot", demo=True, models=("tc_clip",), shots=(4,), variants=("pretrained",))
    parent, child = expand(grid)
    of_grid = ("few_shot", "--demo", "--variants", "base,pretrained", "--only")
    options = ("--out", tmp_path, "--dry-run", "--format", "json")
    first = tcclip("sweep", *of_grid, "*pretrained-k4*", *options)
    Ledger(tmp_path).add([parent, child])
    second = tcclip("sweep", "--only", child.run_id, *options)
    for code, text, error in (first, second):
        assert code == 0, error
        assert [row["run_id"] for row in json.loads(text)] == [parent.run_id, child.run_id]


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_a_protocol_is_explained_from_its_data(name: str, tcclip: Command) -> None:
    code, text, _ = tcclip("explain-protocol", name)
    assert code == 0 and max(map(len, text.splitlines())) <= 100
    protocol = protocols.get(name)
    train = protocol.train
    for part in (
        protocol.title, f"{train.epochs} epochs", f"{train.lr:g}", f"{train.global_batch} videos",
        *protocol.datasets, *protocol.variants, *protocol.statistic.metrics,
    ):  # fmt: skip
        assert part in text
    data = json.loads(tcclip("explain-protocol", name, "--format", "json")[1])
    assert data == [protocol.model_dump(mode="json")]
