"""Test videos are decoded once on a machine, and tested once an epoch; numbers stay the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.decodes import Decodes, count_decodes
from experiments.planning.lists import ListsHere
from experiments.store.ledger import Ledger
from tcclip.evaluate import Validations
from tests.experiments.sweeping import EXECUTION, copy_cache, fork, numbers, run_sweep, small_specs
from tests.places import ROOT

MODELS = ("tc_clip", "vifi_clip", "clip")
WAYS = ("decoded", "cached")


def provenance(out: Path, spec: RunSpec) -> dict[str, Any]:
    text = Ledger(out).folder(spec.run_id).result.read_text()
    found: dict[str, Any] = json.loads(text)["provenance"]
    return found


def predictions(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def test_a_second_run_decodes_no_test_video(tmp_path: Path, cache: Path) -> None:
    own = copy_cache(cache, tmp_path / "cache", decoded=False)
    (spec,) = small_specs(models=("clip",))
    for name, size in {"off": 0, "cold": 1, "warm": 1}.items():
        execution = EXECUTION.model_copy(update={"cache_size": size})
        assert run_sweep([spec], tmp_path / name, own, execution).exit_code == 0
        assert numbers(tmp_path / name, spec) == numbers(tmp_path / "off", spec)
        assert predictions(tmp_path / name) == predictions(tmp_path / "off")
        found = provenance(tmp_path / name, spec)
        views = [found["test_views_decoded"], found["test_views_cached"]]
        assert views == ([0, 3 * 16 * 2] if name == "warm" else [3 * 16 * 2, 0])
    assert DataPaths(cache=own).frames.is_dir()


def test_two_runs_at_once_decode_each_view_once(tmp_path: Path, cache: Path) -> None:
    own = copy_cache(cache, tmp_path / "cache", decoded=False)
    # Two runs of one seed, which draws the views.
    specs = [*small_specs(("clip",)), *small_specs(("clip",), model__text_length=20)]
    processes = [fork(run_sweep, [spec], tmp_path / "out", own) for spec in specs]
    for process in processes:
        process.join()
    found = [provenance(tmp_path / "out", spec) for spec in specs]
    assert sum(one["test_views_decoded"] for one in found) == 3 * 16 * 2
    assert sum(one["test_views_cached"] for one in found) == 3 * 16 * 2


def demo(cache: Path) -> tuple[list[RunSpec], list[Decodes]]:
    """The six runs of `make demo`, with fewer epochs, and what they are counted to decode."""
    settings = {"train.epochs": 2}
    specs = expand(Grid("zero_shot", demo=True, models=MODELS, seeds=(0, 1), settings=settings))
    read = ListsHere(DataPaths(cache=cache)).paths
    return specs, list(count_decodes(specs, read, 10**12, 0.5).values())


def test_the_demo_is_to_decode_each_view_once(cache: Path) -> None:
    _, planned = demo(cache)
    # One view of 48 videos for validation; two, which a seed draws, of 48 for the final tests.
    assert sum(one.test_views_decoded for one in planned) == 48 + 2 * 48 * 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demos_runs_side_by_side_decode_each_view_once(tmp_path: Path, cache: Path) -> None:
    """On Ray, as `make demo`."""
    own = copy_cache(cache, tmp_path / "cache", decoded=False)
    specs, planned = demo(own)
    options = ["--demo", "--set", "train.epochs=2", "--models", ",".join(MODELS)]
    options += ["--seeds", "0,1", "--out", str(tmp_path / "out")]
    subprocess.run(
        [sys.executable, "-m", "cli", "sweep", "zero_shot", *options],
        check=True, cwd=ROOT, env=os.environ | {"TCCLIP_CACHE": str(own)},
    )  # fmt: skip
    found = [provenance(tmp_path / "out", spec) for spec in specs]
    decoded, cached = (sum(one[f"test_views_{how}"] for one in found) for how in WAYS)
    assert decoded + cached == sum(one.test_views for one in planned)
    # A view is taken from the cache, too, if all its frames were in others.
    once = sum(one.test_views_decoded for one in planned)
    assert 0.95 * once < decoded <= once


def test_a_run_resumed_after_its_training_takes_the_same_scores(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs()
    spec = spec.model_copy(update={"validation": spec.suites[:2]})
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    folder, before = Ledger(tmp_path).folder(spec.run_id), predictions(tmp_path)
    straight, found = numbers(tmp_path, spec), provenance(tmp_path, spec)
    planned = count_decodes([spec], ListsHere(DataPaths(cache=cache)).paths, 10**12, 0.5)
    views = found["test_views_decoded"] + found["test_views_cached"]
    assert planned[spec.run_id].test_views == views
    for path in (folder.result, *tmp_path.rglob("*.parquet")):
        path.unlink()  # type: ignore[union-attr]
    passes = []
    validate = Validations.validate
    monkeypatch.setattr(
        Validations, "validate", lambda self, model: passes.append(1) or validate(self, model)
    )
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    assert len(passes) == len({spec.train.epochs, straight["selection"]["best_epoch"]})
    assert numbers(tmp_path, spec) == straight
    assert predictions(tmp_path) == before
    assert provenance(tmp_path, spec)["test_views_decoded"] == 0
