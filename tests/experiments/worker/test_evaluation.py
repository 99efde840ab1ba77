"""`tcclip evaluate`: a checkpoint is ensembled with the weights it started from, or not at all."""

import json
from pathlib import Path

import pytest

import protocols
from experiments.errors import UserError
from experiments.grid.options import GridOptions
from experiments.grid.plan import Grid, expand
from experiments.grid.request import RunPlan, plan_evaluation
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from results.records import Measurement
from tcclip.config import ModelConfig
from tcclip.model import build_model, save_checkpoint
from tests.experiments.sweeping import SETTINGS, run_sweep

OPENAI = {"clip_weights": "openai", "seed": 7}
RANDOM = {"clip_weights": "random", "seed": 7}
FILE = {"clip_weights": f"sha256:{'a' * 64}", "seed": 7}


def checkpoint(folder: Path, start: dict[str, str | int] | None) -> str:
    protocol = protocols.get("zero_shot", demo=True)
    config = ModelConfig.model_validate({"name": "tc_clip", **protocol.model})
    path = folder / "best.safetensors"
    save_checkpoint(build_model(config, ["a", "b"], clip_weights="random"), path, start=start)
    return str(path)


def planned(path: str, *settings: str, ensembled: bool = True, demo: bool = True) -> RunPlan:
    options = GridOptions("zero_shot", demo=demo, settings=settings)
    return plan_evaluation(options, path, ensembled=ensembled, datasets=DATASETS)


@pytest.mark.parametrize("start", [OPENAI, RANDOM])
@pytest.mark.parametrize("demo", [True, False])
def test_what_is_recorded_is_used_whatever_the_protocol_starts_from(
    tmp_path: Path, start: dict[str, str | int], demo: bool
) -> None:
    made = planned(checkpoint(tmp_path, start), demo=demo)
    assert not made.notes
    for spec in made.specs:
        assert spec.ensemble_weight is not None
        assert (spec.train.clip_weights, spec.key.seed) == (start["clip_weights"], 7)


def test_other_weights_than_the_recorded_ones_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, RANDOM)
    with pytest.raises(UserError, match=r"started from random, and is .* --no-ensemble"):
        planned(path, "train.clip_weights=openai")
    (alone,) = planned(path, "train.clip_weights=openai", ensembled=False).specs
    assert alone.ensemble_weight is None


def test_recorded_weights_of_a_file_need_the_file(tmp_path: Path) -> None:
    made = planned(checkpoint(tmp_path, FILE))
    assert "give it with --set train.clip_weights=FILE" in str(made.notes)
    assert made.specs[0].ensemble_weight is None
    clip = tmp_path / "clip.pt"
    clip.write_bytes(b"any content")
    with pytest.raises(UserError, match="started from sha256:aaaa"):
        planned(checkpoint(tmp_path, FILE), f"train.clip_weights={clip}")


def test_a_checkpoint_that_says_nothing(tmp_path: Path) -> None:
    """As older and converted ones: OpenAI's weights are meant, random ones cannot be guessed."""
    path = checkpoint(tmp_path, None)
    unknown = planned(path)
    assert "does not say which random weights" in str(unknown.notes)
    assert unknown.specs[0].ensemble_weight is None
    assert "not ensembled" in str(unknown.specs[0].key.origin)
    published = planned(path, demo=False)
    assert not published.notes and published.specs[0].train.clip_weights == "openai"
    assert published.specs[0].ensemble_weight is not None
    assert planned(path, "train.clip_weights=openai").specs[0].ensemble_weight is not None


def test_evaluating_a_runs_checkpoint_gives_the_runs_numbers(tmp_path: Path, cache: Path) -> None:
    """Ensembled ones too: its random weights are drawn again, of seed 1 and not the first one."""
    grid = Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(1,), settings=SETTINGS)
    (spec,) = expand(grid)
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    folder = Ledger(tmp_path).folder(spec.run_id)
    kept = json.loads(Path(folder.best.with_suffix(".json")).read_text())
    assert kept["start"] == {"clip_weights": "random", "seed": 1}
    made = planned(str(folder.best))
    summary = run_sweep(list(made.specs), tmp_path, cache, files=made.grid.files)
    assert summary.exit_code == 0, summary.failed
    assert best(Ledger(tmp_path), made.specs[0].run_id) == best(Ledger(tmp_path), spec.run_id)


def best(ledger: Ledger, run_id: str) -> set[Measurement]:
    result = ledger.folder(run_id).read_result()
    assert result is not None
    found = {one for one in result.measurements if one.checkpoint == "best"}
    assert {one.weights for one in found} == {"raw", "ensembled"}
    return found
