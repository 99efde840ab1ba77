"""A user's own data set, from a YAML file to a row of the report, without code."""

import shutil
from pathlib import Path

import pytest

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from results.compare.compare import compare
from results.report.report import report
from results.tables.formats import render, write
from tests.experiments.planning.lists import SETTINGS
from tests.experiments.sweeping import EXECUTION, run_sweep


@pytest.fixture
def own(tmp_path: Path, shapes: Path) -> Path:
    """Eight classes of the embedded videos as somebody's data set, in class folders."""
    names = (shapes / "labels/seen.csv").read_text().splitlines()[:9]
    (tmp_path / "labels.csv").write_text("\n".join(names) + "\n")
    for split, target in (("train_2shot", "train_2shot"), ("val", "val")):
        lines = [
            line
            for line in (shapes / f"splits/{split}.txt").read_text().splitlines()
            if int(line.split()[-1]) < 8
        ]
        listed = [f"class {line.rsplit(maxsplit=1)[1]}/{line}" for line in lines]
        (tmp_path / f"{target}.txt").write_text("\n".join(listed))
        for line in lines:
            path, label = line.rsplit(maxsplit=1)
            folder = tmp_path / "videos" / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(shapes / "videos" / path, folder)
    file = tmp_path / "shapes8.yaml"
    file.write_text(
        "name: shapes8\ntitle: Eight shapes\nvideos: videos\nlabels: labels.csv\n"
        "splits: {train_2shot: train_2shot.txt, val: val.txt}\n"
    )
    return file


def grid() -> Grid:
    settings = SETTINGS | {"train.global_batch": 16}
    return Grid("few_shot", datasets=("shapes8",), shots=(2,), settings=settings)


def test_from_a_yaml_file_to_a_row_of_the_report(own: Path, tmp_path: Path) -> None:
    trained = (tmp_path / "train_2shot.txt").read_text().splitlines()[0]
    with (tmp_path / "val.txt").open("a") as file:
        file.write(f"\n./{trained}")
    data_paths = DataPaths.find(own=[own])
    (spec,) = expand(grid(), data_paths.datasets())
    summary = run_sweep(
        [spec], tmp_path / "out", data_paths, EXECUTION.model_copy(update={"micro_batch": 16})
    )
    assert summary.exit_code == 0, summary.failed
    made = report([tmp_path / "out"], "few_shot")
    (column,) = [c for c in made.columns if c.dataset == "shapes8" and c.shots == 2]
    assert column.chance == 12.5
    assert column.title == "Eight shapes" and "Eight shapes" in render(made, "md")
    leak = (
        "shapes8 val shares 1 of its 17 videos with the training list shapes8 train_2shot: ./class"
    )
    assert leak in render(made, "md"), "the warning stays with the number"
    files = write(made, tmp_path / "tables")
    titled = [path for path in files if path.suffix != ".csv"]
    assert all("Eight shapes" in path.read_text() for path in titled), "every format has the row"
    compared = compare("best", "last", "few_shot", outs=[tmp_path / "out"], resamples=10)
    assert [(one.dataset, one.part) for one in compared.differences] == [("Eight shapes", "K=2")]


def test_a_missing_video_fails_its_run_with_its_name(own: Path, tmp_path: Path) -> None:
    lost = next((tmp_path / "videos" / "class 3").iterdir())
    listed = (tmp_path / "val.txt").read_text()
    name = next(p.name for p in lost.parent.iterdir() if p.name in listed)
    (lost.parent / name).unlink()
    data_paths = DataPaths.find(own=[own])
    summary = run_sweep(expand(grid(), data_paths.datasets()), tmp_path / "out", data_paths)
    (cause,) = summary.failed.values()
    assert summary.exit_code == 1
    assert cause.startswith("MissingData: shapes8 val: 1 of 16 listed videos are not there")
    assert name in cause
