"""Files in the place of MLflow's database, and copies of runs that are gone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.store.ledger import Ledger
from experiments.tracking import default_uri
from experiments.tracking.mirror import Mirror
from tests.builders import make_result
from tests.experiments.sweeping import small_specs

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two finished runs."""
    ledger, specs = Ledger(tmp_path / "out"), small_specs(("tc_clip", "vifi_clip"))
    ledger.add(specs)
    for spec in specs:
        Path(ledger.folder(spec.run_id).result).write_text(make_result(spec).model_dump_json())
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "mlflow.db is no file, so no database"),
        (os.mkfifo, "mlflow.db is no file, so no database"),
        (lambda path: path.write_text("no database " * 100), "file is not a database"),
    ],
)
def test_what_is_no_database_is_said_at_once(
    make: Callable[[Path], None], message: str, out: Path, tcclip: Command
) -> None:
    make(out / "mlflow.db")
    code, _, error = tcclip("ui", "--sync", "--out", out)
    assert code == 2 and message in error, error


def test_copies_of_deleted_runs_go_also_after_the_folder_was_moved(
    out: Path, tcclip: Command
) -> None:
    def copies(folder: Path) -> int:
        return len(Mirror(Ledger(folder), default_uri(folder)).runs.all())

    assert tcclip("ui", "--sync", "--out", out)[0] == 0 and copies(out) == 2
    moved = out.rename(out.with_name("moved"))
    shutil.rmtree(next(moved.glob("runs/*")))
    assert tcclip("ui", "--sync", "--out", moved)[0] == 0 and copies(moved) == 1
    shutil.rmtree(moved / "runs")
    assert tcclip("ui", "--sync", "--out", moved)[0] == 0
    assert not Mirror(Ledger(moved), default_uri(moved)).runs.search(), "nor their sweep's"


def test_nothing_is_made_outside_of_the_output_folder(out: Path, tcclip: Command) -> None:
    """MLflow makes the folder that a database's address names, quoted or not."""
    named = out.rename(out.parent / "né wlé")
    assert tcclip("ui", "--sync", "--out", named)[0] == 0
    assert (named / "mlflow.db").is_file()
    assert [one.name for one in out.parent.iterdir()] == ["né wlé"]
