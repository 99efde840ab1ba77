"""`tcclip evaluate`: a checkpoint is ensembled with the weights it started from, or not at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import protocols
from experiments.datasets.paths import DataPaths
from experiments.errors import UserError
from experiments.grid.options import GridOptions
from experiments.grid.plan import Grid, expand
from experiments.grid.request import RunPlan, plan_evaluation
from experiments.store.ledger import Ledger
from experiments.worker.data import RunData
from experiments.worker.job import Job
from protocols.datasets import DATASETS
from results.records import Measurement
from tcclip.config import GEOMETRIES, AugmentConfig, ModelConfig
from tcclip.distributed import current_ranks
from tcclip.model import build_model, save_checkpoint
from tcclip.weights.clip_weights import random_clip_state
from tests.experiments.sweeping import EXECUTION, SETTINGS, run_sweep, small_specs

OPENAI = {"clip_weights": "openai", "seed": 7}
RANDOM = {"clip_weights": "random", "seed": 7}
FILE = {"clip_weights": f"sha256:{'a' * 64}", "seed": 7}


def checkpoint(
    folder: Path,
    start: dict[str, str | int] | None,
    augment: AugmentConfig | None = None,
    **settings: Any,
) -> str:
    protocol = protocols.get("zero_shot", demo=True)
    config = ModelConfig.model_validate({"name": "tc_clip", **protocol.model, **settings})
    path = folder / "best.safetensors"
    model = build_model(config, ["a", "b"], clip_weights="random")
    save_checkpoint(model, path, start=start, augment=augment)
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
    torch.save(random_clip_state(GEOMETRIES["tiny"], torch.Generator()), clip)
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


def few_shot(path: str, *settings: str, **options: Any) -> RunPlan:
    given = GridOptions("few_shot", datasets="hmdb51", shots="2", settings=settings, **options)
    return plan_evaluation(given, path, ensembled=True, datasets=DATASETS)


def test_what_an_evaluation_does_not_use_of_a_grid_file_is_said(tmp_path: Path) -> None:
    path, file = checkpoint(tmp_path, OPENAI), tmp_path / "grid.yaml"
    file.write_text(
        "protocol: few_shot\ndatasets: [hmdb51]\nshots: [2]\nmodels: [clip]\nseeds: [3]"
    )
    made = plan_evaluation(GridOptions(str(file)), path, ensembled=True, datasets=DATASETS)
    assert made.notes == [
        f"{file}:{line}: {axis}: not used, the checkpoint says which"
        for line, axis in ((4, "models"), (5, "seeds"))
    ]


@pytest.mark.parametrize("start", [OPENAI, RANDOM, FILE, None])
def test_nothing_is_asked_for_where_nothing_is_ensembled(
    tmp_path: Path, start: dict[str, str | int] | None
) -> None:
    """A protocol without ensembling needs no CLIP weights: the checkpoint holds all tensors."""
    (spec,) = few_shot(checkpoint(tmp_path, start)).specs
    assert spec.train.clip_weights == "random"
    assert not [one for one in spec.key.overrides if "clip_weights" in one]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_checkpoint_is_shown_images_of_its_own_size(tmp_path: Path, recorded: bool) -> None:
    augment = AugmentConfig(resize=50, crop=32, normalisation="clip") if recorded else None
    path = checkpoint(tmp_path, OPENAI, augment)
    made = few_shot(path)
    found = made.specs[0].augment
    assert found.crop == made.specs[0].model.sizes.image_size == 32
    assert (found.resize, found.normalisation) == ((50, "clip") if recorded else (37, "imagenet"))
    assert "augment.crop=32" in made.specs[0].key.overrides
    assert few_shot(path, "augment.resize=36").specs[0].augment.resize == 36


def test_a_checkpoint_of_the_protocols_own_settings_changes_none(tmp_path: Path) -> None:
    """Its runs keep their ids: what is recorded is what the protocol says."""
    demo = protocols.get("zero_shot", demo=True)
    with_view, without = (
        planned(checkpoint(tmp_path, RANDOM, augment)).specs[0] for augment in (demo.augment, None)
    )
    fields = {"model", "augment", "suites"}
    assert with_view.model_dump(include=fields) == without.model_dump(include=fields)
    assert with_view.augment == demo.augment and with_view.key.overrides == ()


def test_the_recorded_text_length_is_used(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, OPENAI, text_length=40)
    base, llm = few_shot(path, variants="base,llm").specs
    assert (base.model.text_length, llm.model.text_length) == (40, 77)
    short = GEOMETRIES["tiny"].model_copy(update={"context_length": 50})
    path = checkpoint(tmp_path, OPENAI, geometry=short, text_length=40)
    base, llm = few_shot(path, variants="base,llm").specs
    assert (base.model.text_length, llm.model.text_length) == (40, 50)


def test_without_its_json_a_checkpoint_is_not_evaluated(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, RANDOM)
    Path(path).with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"no best\.json beside .*keep the two files together"):
        planned(path)


def test_evaluating_a_runs_checkpoint_gives_the_runs_numbers(tmp_path: Path, cache: Path) -> None:
    """Ensembled ones too: its random weights are drawn again, of seed 1 and not the first one."""
    settings = SETTINGS | {"augment.resize": 44, "train.epochs": 1}
    grid = Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(1,), settings=settings)
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


def test_a_run_that_trains_nothing_looks_for_no_training_videos(cache: Path) -> None:
    (spec,) = small_specs(models=("clip",))
    paths = DataPaths(cache=cache)
    job = Job(spec=spec, out=cache, data_paths=paths, execution=EXECUTION, owner="test")
    data = RunData.load(job, current_ranks("cpu"))
    # As where the model is tested on other data sets than it would be trained on.
    assert not data.train.items
    elsewhere = replace(data, locators={}, validation=(), suites=())
    assert list(elsewhere.train_loader().epoch(0)) == []
