"""Grid files as a user meets them: strict types, each name once, one rule for what wins."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
HEAD = "protocol: few_shot\ndatasets: [hmdb51]\nmodels: [tc_clip]\nshots: [2]\nseeds: [0]\n"


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "grid.yaml"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("seeds: [1]", "grid.yaml:6: 'seeds' is given twice, first in line 5"),
        ("set: {train.lr: 1, train.lr: 2}", "6: 'train.lr' is given twice, first in line 6"),
        ("splits:", "grid.yaml:6: splits has no value"),
        ("shot: [2]", "grid.yaml:6: shot: "),
        ("variants: []", "grid.yaml:6: variants: .*; leave it out for all"),
        ("variants: [nope]", "grid.yaml:6: few_shot has no variant 'nope'"),
        ("splits: [true]", r"grid.yaml:6: splits.0: .*integer \(given: True\)$"),
        ("splits: [1:30]", r"grid.yaml:6: splits.0: .*integer \(given: '1:30'\)$"),
        ("splits: ['1']", r"grid.yaml:6: splits.0: .*integer \(given: '1'\)$"),
        ("splits: [1.0]", r"grid.yaml:6: splits.0: .*integer \(given: 1.0\)$"),
        ("splits: [1]", "grid.yaml:6: few_shot has no --splits"),
        ("splits: 4-0", "grid.yaml:6: splits: .* 4-0 ends before it begins"),
        ("splits: [0-99999]", "grid.yaml:6: .*is more than 10000 integers"),
        ("set:\n  train.eps: true", r"grid.yaml:7: train.eps: .*number \(given: True\)"),
        ("set: {train.lrr: 1}", "grid.yaml:6: train.lrr: .* nearest is 'train.lr'"),
        ("set: {train.clip_weights: no.pt}", "grid.yaml:6: train.clip_weights=no.pt: no file at"),
        ("set: {model.video_prompting: no}", "6: model.video_prompting: .*; write true or false"),
        ("set: {train.mix: {}, train.mix.group: 4}", "6: train.mix.group is a part of .*train.mix"),
        ("rows:\n  - {}\n  - {execution.compile: true}", "grid.yaml:8: execution.compile is the"),
        ("set: {execution.cpu_threads: 1.5}", "grid.yaml:6: execution.cpu_threads: .*integer"),
        ("a: [1\nb: 2", "grid.yaml:7 is not YAML"),
        ("set: {a: !!python/name:os.system x}", "grid.yaml:6: the tag .* is not known"),
        ('set: {train.clip_weights: "a\\0b"}', "grid.yaml:6: .* has a NUL character"),
        ("---\nprotocol: zero_shot", "grid.yaml:6: a second document"),
    ],
)
def test_mistakes_name_file_and_line(lines: str, message: str, grid: Path, tcclip: Command) -> None:
    grid.write_text(HEAD + lines + "\n")
    code, out, error = tcclip("sweep", grid, "--dry-run")
    assert (code, out) == (2, "") and re.search(message, error.strip()), error


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [" + "x," * 9 + "]\n"
        + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in pairwise("abcdefghi")),
        f"a: &a {'x' * 500_000}\nb: [{'*a,' * 100_000}]",
        "".join(f"k{number}: 1\n" for number in range(150_000)),
        "a: " + "[" * 100_000,
        "- " * 100_000,
        "a: &a [*a]",
        f"a: {'9' * 5000}",
    ],
    ids=["aliases", "long aliases", "names", "brackets", "dashes", "cycle", "digits"],
)  # fmt: skip
def test_bombs_are_refused_at_once(text: str, grid: Path, tcclip: Command) -> None:
    grid.write_text(text)
    code, _, error = tcclip("sweep", grid, "--dry-run")
    assert code == 2 and error.count("\n") == 1 and "grid.yaml" in error, error[:500]


def test_options_win_over_rows_over_set_and_the_dry_run_says_so(
    grid: Path, tcclip: Command
) -> None:
    grid.write_text(
        HEAD + "set: {train.lr: 2e-5, train.eps: 1e-6, execution.loader_workers: 3}\n"
        "rows:\n  - {train.lr: 3e-5}\n  - {train.eps: 1e-7, model.seed_ratio: 0.5}\n"
    )

    def settings(*options: str) -> tuple[list[str], str]:
        code, out, error = tcclip("sweep", grid, "--dry-run", "--format", "json", *options)
        assert code == 0, error
        return [" ".join(run["overrides"]) for run in json.loads(out)], error

    rows, error = settings()
    assert rows == ["train.eps=1e-06 train.lr=3e-05",
                    "model.seed_ratio=0.5 train.eps=1e-07 train.lr=2e-05"]  # fmt: skip
    assert "wins" not in error
    rows, error = settings("--set", "train.lr=4e-5", "--seeds", "1", "--loader-workers", "1")
    assert rows == ["train.eps=1e-06 train.lr=4e-05",
                    "model.seed_ratio=0.5 train.eps=1e-07 train.lr=4e-05"]  # fmt: skip
    for said in (
        "--seeds 1 wins over grid.yaml:5: seeds 0",
        "train.lr=4e-05 of the command wins over grid.yaml:6: train.lr=2e-05",
        "train.lr=4e-05 of the command wins over grid.yaml:8: train.lr=3e-05",
        "execution.loader_workers=1 of the command wins over grid.yaml:6: execution.loader_workers",
    ):
        assert said in error.replace(f"{grid.parent}/", ""), error
    _, error = settings("--search", "train.lr=choice(1e-5)", "--num-samples", "1",
                        "--set", "train.lr=1e-3")  # fmt: skip
    assert "--search wins over --set train.lr=0.001" in error


def test_a_dry_run_says_once_what_all_runs_share(grid: Path, tcclip: Command) -> None:
    grid.write_text(
        HEAD + "set: {train.lr: 2e-5}\n"
        "rows: [{name: half, model.seed_ratio: 0.5}, {train.eps: 1e-7}]"
    )
    code, out, error = tcclip("sweep", grid, "--dry-run")
    assert code == 0, error
    head, _, *lines = out.splitlines()[1:]
    assert head.split()[:3] == ["run", "state", "row"]
    assert [line.split()[2] for line in lines[:2]] == ["half", "train.eps=1e-07"]
    assert lines[2] == "settings of all runs: train.lr=2e-05" and "seed_ratio" not in out


def test_few_aliases_and_yaml_1_2_numbers_are_read(grid: Path, tcclip: Command) -> None:
    grid.write_text(
        HEAD.replace("[2]", "[&two 002]")
        + "set: {train.global_batch: 0x10, train.validate_every: *two}\n"
    )
    code, out, error = tcclip("sweep", grid, "--dry-run", "--format", "json")
    (run,) = json.loads(out)
    assert code == 0 and "-k2-" in run["run_id"], error
    assert run["overrides"] == ["train.global_batch=16", "train.validate_every=2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "train.lr=true"], "--set train.lr: .*number"),
        (["--set", "train.lr=1:30"], "--set train.lr: .*number"),
        (["--set", "train.lr=1", "--set", "train.lr=2"], "--set train.lr is given twice: 1 and 2"),
        (["--set", "model.prompt_layers=[1, [2]"], "--set model.prompt_layers: .* is not YAML"),
        (["--set", "train.clip_weights=my #1.pt"], "my #1.pt: no file at"),
        (["--search", "train.lr=uniform(0,1e999)"], "needs two numbers"),
        (["--search", "train.lr=uniform(False,True)"], "needs two numbers"),
        (["--search", "train.epochs=randint(0.5,2.5)"], "needs two whole numbers"),
        (["--search", "train.epochs=randint(1,9999999999999999999999)"], "needs two whole numbers"),
        (["--search", "train.epochs=choice({1,2})"], "are not plain values"),
        (["--search", f"train.lr=choice({'-' * 100_000}1)"], "are not plain values"),
        (["--search", "train.lr=choice(1)", "--search", "train.lr=choice(2)"], "is given twice"),
    ],
)
def test_values_of_options_are_taken_as_strictly(
    options: list[str], message: str, grid: Path, tcclip: Command
) -> None:
    grid.write_text(HEAD)
    samples = ("--num-samples", "2") if "--search" in options else ()
    code, _, error = tcclip("sweep", grid, "--dry-run", *samples, *options)
    assert code == 2 and re.search(message, error), error[:500]


@pytest.mark.parametrize("seeds", ["0-2,9", "[0-2, 9]", "[0, 1, 2, 9]"])
def test_lists_may_be_written_as_in_options(seeds: str, grid: Path, tcclip: Command) -> None:
    text = HEAD.replace("seeds: [0]", f"seeds: {seeds}").replace("[tc_clip]", "tc_clip")
    grid.write_text(text.replace("shots: [2]", "shots: 2"))
    code, out, error = tcclip("sweep", grid, "--dry-run", "--format", "json")
    assert code == 0, error
    assert [row["run_id"].split("-")[-2] for row in json.loads(out)] == ["s0", "s1", "s2", "s9"]
