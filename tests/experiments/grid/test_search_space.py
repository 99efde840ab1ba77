"""Searches and grid files: what they say, what they draw, what they refuse."""

from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.grid import grid_file
from experiments.grid.options import GridOptions
from experiments.grid.plan import expand
from experiments.grid.request import make_grid
from experiments.grid.search_space import parse, trials


def test_the_same_search_draws_the_same_trials_and_more_add_to_them() -> None:
    searches = [parse("train.lr=loguniform(1e-7,1e-5)"), parse("model.context_tokens=choice(4,8)")]
    four, eight = trials(searches, 4), trials(searches, 8)
    assert eight[:4] == four == trials(searches, 4)
    assert len({row["train.lr"] for row in eight}) == 8
    assert all(1e-7 <= row["train.lr"] <= 1e-5 for row in eight)
    assert {row["model.context_tokens"] for row in eight} == {4, 8}
    assert all(row["train.lr"] == float(f"{row['train.lr']:.3g}") for row in eight)


def test_randint_includes_both_ends() -> None:
    drawn = {row["n"] for row in trials([parse("n=randint(1,3)")], 50)}
    assert drawn == {1, 2, 3}


@pytest.mark.parametrize(
    "text",
    ["train.lr", "train.lr=1e-5", "train.lr=normal(0,1)", "train.lr=uniform(1)",
     "train.lr=loguniform(0,1)", "train.lr=uniform(2,1)", "train.lr=uniform(a,b)"],
)  # fmt: skip
def test_what_is_no_search_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--search"):
        parse(text)


def test_trials_are_runs_of_their_own() -> None:
    options = GridOptions(
        "zero_shot", demo=True, models="tc_clip", seeds="0",
        search=["train.lr=loguniform(1e-4,1e-2)"], num_samples=3,
    )  # fmt: skip
    specs = expand(make_grid(options))
    assert len({spec.run_id for spec in specs}) == 3
    assert all(spec.key.overrides[0].startswith("train.lr=") for spec in specs)


@pytest.mark.parametrize("file", sorted(grid_file.FOLDER.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_projects_grid_files_are_grids(file: Path) -> None:
    specs = expand(make_grid(GridOptions(file.name)))
    lines = file.read_text().splitlines()
    assert f"tcclip sweep {file.name}" in lines[1], "the command is in the header"
    assert len(specs) == sum(line.startswith("  - ") for line in lines)


def test_a_grid_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no grid file 'no.yaml'; those of the project: aggreg"):
        make_grid(GridOptions("no.yaml"))
