"""Rows with names: what they are shown by, and no part of what they are."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.grid.grid_file import FOLDER
from experiments.grid.options import GridOptions
from experiments.grid.request import plan_sweep
from experiments.grid.spec import RunSpec
from experiments.scheduler.sweep import _begin_rerun
from experiments.store.ledger import Ledger
from experiments.tracking.mlflow_runs import NAME
from protocols.datasets import DATASETS
from tests.experiments.sweeping import SETTINGS
from tests.experiments.tracking.mirrored import copies, mirror_of

Command = Callable[..., tuple[int, str, str]]
LOCAL = ("--executor", "local", "--loader-workers", "0")


@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_a_name_is_shown_wherever_the_run_is_and_changes_nothing_of_it(
    again: tuple[Path, RunSpec], tmp_path: Path, tcclip: Command
) -> None:
    out, spec = again
    before = (out / "runs" / spec.run_id / "spec.json").read_bytes()
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    grid = ("sweep", "zero_shot", "--demo", "--seeds", "0", "--models", "tc_clip", *settings)
    code, table, error = tcclip(*grid, "--out", out, *LOCAL, "--name", "short | clips")
    assert code == 0 and "1 runs, 0 to do" in error, error
    assert "short | clips" in table and "short | clips: TC-CLIP" not in table.split("chance")[0]
    assert (out / "runs" / spec.run_id / "spec.json").read_bytes() == before
    assert [one.name for one in (out / "runs").iterdir()] == [spec.run_id]
    (status,) = json.loads(tcclip("status", "--out", out, "--format", "json")[1])
    assert status["name"] == "short | clips"
    mirror = mirror_of(out)
    mirror.sync([spec.run_id])
    (copy,) = copies(mirror, spec)
    assert copy.data.tags[NAME] == "short | clips"
    assert copy.info.run_name == "seed 0, short | clips, moving_shapes"
    # A row's name in a grid file takes its place; the command's wins over that.
    rows = ", ".join(f"{name}: {value}" for name, value in SETTINGS.items())
    (tmp_path / "grid.yaml").write_text(
        f"protocol: zero_shot\nmodels: [tc_clip]\nseeds: [0]\nrows: [{{name: two, {rows}}}]\n"
    )
    command = ("sweep", tmp_path / "grid.yaml", "--demo", "--out", out, *LOCAL)
    code, table, error = tcclip(*command)
    assert code == 0 and "two" in table and "short" not in table, error
    assert "wins over the row's name 'two'" in tcclip(*command, "--name", "x", "--dry-run")[2]
    # What starts again keeps it.
    assert _begin_rerun(Ledger(out), [spec], "all", print) == {spec.run_id: "two"}


def test_every_trial_of_a_row_has_its_name_and_parents_have_none(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "protocol: few_shot\ndatasets: [hmdb51]\nshots: [2]\nvariants: [base, pretrained]\n"
        "rows: [{name: a}, {model.seed_ratio: 0.5}]\n"
    )
    plain = plan_sweep(GridOptions(str(tmp_path / "grid.yaml")), DATASETS)
    assert len(plain.specs) == 6 and len(plain.names) == 2
    assert {spec.run_id for spec in plain.specs if "few_shot" in spec.run_id} > set(plain.names)
    searched = plan_sweep(
        GridOptions(str(tmp_path / "grid.yaml"), variants="base", name="b", num_samples=3,
                    search=["train.lr=loguniform(1e-7,1e-5)"]), DATASETS
    )  # fmt: skip
    assert set(searched.names.values()) == {"b"} and len(searched.names) == 6


def test_two_rows_that_are_one_are_named(tmp_path: Path, tcclip: Command) -> None:
    (tmp_path / "grid.yaml").write_text(
        "protocol: few_shot\ndatasets: [hmdb51]\nshots: [2]\n"
        "rows: [{name: a}, {name: half, model.seed_ratio: 0.5}, {name: b, train.epochs: 50}]\n"
    )
    code, out, error = tcclip("sweep", tmp_path / "grid.yaml", "--dry-run")
    assert code == 0 and "2 runs: 2 planned" in out
    assert "row 'b' is the same as row 'a'" in error and "half" not in error


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "\x1b[31mred", "x" * 61])
def test_a_name_is_a_short_line_of_text(name: str, tmp_path: Path, tcclip: Command) -> None:
    code, _, error = tcclip("sweep", "zero_shot", "--dry-run", "--name", name)
    assert code == 2 and re.search("--name .* (a title is wanted|at most 60)", error), error
    (tmp_path / "grid.yaml").write_text(
        f"protocol: zero_shot\nrows:\n  - {{}}\n  - {{name: {json.dumps(name)}}}\n"
    )
    code, _, error = tcclip("sweep", tmp_path / "grid.yaml", "--dry-run")
    assert code == 2 and "grid.yaml:4: name" in error, error


def test_the_ablations_have_names() -> None:
    for file in FOLDER.glob("*.yaml"):
        plan = plan_sweep(GridOptions(file.name), DATASETS)
        assert set(plan.names) == {spec.run_id for spec in plan.specs}
        assert len(set(plan.names.values())) == len(plan.specs)
