"""A method of another package: planned, trained, kept, tested and reported like the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tcclip import methods
from tcclip.config import ModelConfig, TrainConfig
from tcclip.methods import registry
from tcclip.model import build_model
from tcclip.model.checkpoints import describe_checkpoint, load_checkpoint
from tcclip.schedule import build_optimizer
from tcclip.weights.layouts import layout_of
from tests.experiments.sweeping import run_sweep, small_specs
from tests.tcclip.methods.outside import MODULE, install
from tests.tcclip.weights.made import openai_state

Run = Callable[..., tuple[int, str, str]]
DRY = ("sweep", "zero_shot", "--demo", "--models", "scaled_clip", "--dry-run")


def forget() -> None:
    registry._offered.cache_clear()
    registry.get.cache_clear()
    sys.modules.pop("scaled_clip", None)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(install(folder))


@pytest.mark.usefixtures("installed")
def test_a_method_from_outside_runs_like_ours(
    tcclip: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    assert methods.names() == ("clip", "vifi_clip", "open_vclip", "tc_clip", "scaled_clip")
    out = tmp_path / "out"
    (spec,) = small_specs(("scaled_clip",), model__strength=1.5)
    assert spec.model_dump(mode="json")["model"]["strength"] == 1.5
    assert type(spec).model_validate_json(spec.model_dump_json()).run_id == spec.run_id
    assert run_sweep([spec], out, cache).exit_code == 0
    folder = out / "runs" / spec.run_id
    (best,) = (folder / "checkpoints").glob("best-*.safetensors")
    shown = describe_checkpoint(best)["model"]
    assert (shown["name"], shown["strength"]) == ("scaled_clip", 1.5)
    model = build_model(methods.settings(shown), ("a", "b"))
    load_checkpoint(model, best)
    assert not torch.equal(model.get_parameter("frame_scale"), torch.ones(2)), "it was trained"
    train = TrainConfig(epochs=1, warmup_epochs=0, lr=1.0, lr_min=0, global_batch=4)
    scales = methods.get("scaled_clip").rate_scales(train)
    groups = build_optimizer(model, scales, train).param_groups
    assert [(len(one["params"]) == 1, one["base_lr"]) for one in groups] == [
        (False, 1.0),
        (True, 5),
    ]
    code, text, _ = tcclip("report", "zero_shot", "--demo", "--out", out)
    assert code == 0 and "Scaled CLIP" in text and "model.strength=1.5" in text
    code, text, _ = tcclip("status", "--out", out, "--format", "json")
    (row,) = json.loads(text)
    assert row["state"] == "finished" and "scaled_clip" in row["run_id"]


@pytest.mark.usefixtures("installed")
def test_its_settings_are_checked(tcclip: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert tcclip(*DRY, *out, "--set", "model.strength=2")[0] == 0
    code, _, text = tcclip(*DRY, *out, "--set", "model.stength=2")
    assert code == 2 and "the nearest is 'model.strength'" in text
    code, _, text = tcclip(*DRY, *out, "--set", "model.strength=-1")
    assert code == 2 and "model.strength" in text
    code, _, text = tcclip(*DRY[:4], "tc_clip", "--dry-run", *out, "--set", "model.strength=2")
    assert code == 2, "only its own method has it"


def test_without_its_package_it_is_not_known(tcclip: Run, tmp_path: Path) -> None:
    code, _, text = tcclip(*DRY, "--out", tmp_path)
    assert code == 2 and "allowed: clip, vifi_clip, open_vclip, tc_clip" in text
    with pytest.raises(ValueError, match=r"no method 'scaled_clip'; known: clip, .* installed"):
        methods.settings({"name": "scaled_clip"})
    shown = methods.shown("scaled_clip")
    assert shown.title == "scaled_clip" and shown.trained, "tables of its runs can still be made"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import nothing_there\n", "cannot be imported: No module named 'nothing_there'"),
        ("METHOD = 3\n", r"is no tcclip\.methods\.Method of that name"),
        (MODULE.replace('"scaled_clip"', '"other"'), r"is no tcclip\.methods\.Method of that name"),
    ],
)
def test_a_broken_package_harms_only_its_own_method(
    tcclip: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str
) -> None:
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(install(folder, module))
    with pytest.raises(ValueError, match=message):
        methods.get("scaled_clip")
    code, _, text = tcclip(*DRY, "--out", tmp_path)
    assert code == 2 and "scaled_clip" in text and "Traceback" not in text
    assert methods.shown("scaled_clip").title == "scaled_clip"
    assert layout_of(openai_state()).use == "clip", "files of weights are still read"
    assert tcclip(*DRY[:4], "clip", "--dry-run", "--out", tmp_path)[0] == 0


def test_a_name_can_stand_in_a_run_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = MODULE.replace('"scaled_clip"', '"scaled-clip"')
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(install(folder, module, name="scaled-clip"))
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        methods.get("scaled-clip")


@pytest.mark.usefixtures("installed")
def test_parameters_need_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    bare = dataclasses.replace(methods.get("scaled_clip"), initial_value=None)
    monkeypatch.setitem(registry.OWN, "scaled_clip", bare)
    registry.get.cache_clear()
    with pytest.raises(ValueError, match=r"CLIP lacks, frame_scale, and no initial_value"):
        build_model(ModelConfig(name="scaled_clip", backbone="tiny"), ("a",))
