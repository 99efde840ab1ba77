"""Both checkpoint formats load exactly, and a bad file gives an error that says what is wrong."""

import json
import logging
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tcclip.model import Model, load_checkpoint, save_checkpoint
from tcclip.model.checkpoints import convert, describe, describe_checkpoint, ensembled_state
from tcclip.weights.clip_weights import clip_shapes
from tcclip.weights.parameter_names import TOKEN_EMBEDDING, from_openai, is_clip_parameter
from tests.tcclip.model.builders import NAMES, SMALL, small_model, small_video
from tests.tcclip.model.golden import golden_model, recorded
from tests.tcclip.model.published import to_published


def published(model: Model) -> dict[str, Tensor]:
    """The model's weights as the published training code saves them."""
    state = to_published(model.state_dict(), split=model.config.name == "tc_clip")
    table = model.text.token_embedding.weight.detach()
    n, p = len(model.class_names), 1 + model.config.prompt_length
    state["prompt_learner.token_prefix"] = table[model.class_prefix[:1]].expand(n, 1, -1)
    state["prompt_learner.token_suffix"] = torch.zeros(n, model.config.text_length - p, 24)
    return {f"module.{name}": x.clone() for name, x in state.items()}


def save_published(model: Model, path: Path, **more: Any) -> Path:
    content = {"model": published(model), "optimizer": {"state": {}}, "epoch": 7,
               "max_accuracy": 54.2, "lr_scheduler": {}}  # fmt: skip
    torch.save(content | more, path)
    return path


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        return model.eval()(small_video()).logits


# ---- Our own format ----


@pytest.mark.parametrize("name", ["tc_clip", "vifi_clip", "clip"])
def test_own_format_round_trip(tmp_path: Path, name: str) -> None:
    model, other = small_model(name=name), small_model(name=name, seed=1)
    save_checkpoint(model, tmp_path / "best.safetensors")
    load_checkpoint(other, tmp_path / "best.safetensors")
    assert torch.equal(logits(other), logits(model))
    about, weights = sorted(tmp_path.iterdir())
    assert (about.name, weights.name) == ("best.json", "best.safetensors")
    assert weights.stat().st_mode == about.stat().st_mode, "readable for the same people"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint in our own format."""
    path = tmp_path / "best.safetensors"
    save_checkpoint(small_model(), path)
    return path


def test_describe_own(own: Path) -> None:
    shown = json.loads(json.dumps(describe(own)))
    assert shown["format"] == "own"
    assert shown["class_names"] == list(NAMES)
    assert shown["model"]["context_tokens"] == 5
    assert shown["token_embedding"] and shown["dtypes"] == ["float32"]


def test_own_format_needs_its_json(own: Path) -> None:
    own.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="keep the two files together"):
        describe_checkpoint(own)
    shown = describe(own)
    assert (shown["format"], shown["model"]) == ("own", None)
    assert "no best.json beside" in shown["missing"]
    for text in ('{"format": "tcc', '{"format": "tcclip", "version": 1}', '{"format": "tcclip"}'):
        own.with_suffix(".json").write_text(text)
        with pytest.raises(ValueError, match=r"best\.json is damaged"):
            describe(own)


def test_a_newer_version_is_refused(own: Path) -> None:
    header = own.with_suffix(".json")
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="version 99, newer than this program's 1"):
        describe(own)


def test_names_end_in_safetensors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save_checkpoint(small_model(), tmp_path / "best.pth")


# ---- The published format ----


def test_published_state_dict_without_a_file() -> None:
    model, other = small_model(), small_model()
    other.vision.class_embedding.data.zero_()
    load_checkpoint(other, published(model))
    assert torch.equal(logits(other), logits(model))


def test_a_published_checkpoint_gives_the_golden_weights(tmp_path: Path) -> None:
    """Every published name and shape, at full size, into a model with other weights."""
    facts, _ = recorded("tcclip_t4")
    model = golden_model(facts)
    state = to_published(model.state_dict(), split=True)
    for name in ("prompt_learner.token_prefix", "prompt_learner.token_suffix"):
        state[name] = torch.zeros(facts["shapes"][name])
    assert {name: list(x.shape) for name, x in state.items()} == facts["shapes"]
    path = tmp_path / "best.pth"
    torch.save({"model": {f"module.{n}": x for n, x in state.items()}}, path)
    own = model.state_dict()
    others = {n: x if n == TOKEN_EMBEDDING else torch.zeros_like(x) for n, x in own.items()}
    model.load_state_dict(others, assign=True)
    load_checkpoint(model, path)
    loaded = model.state_dict()
    assert loaded.keys() == own.keys() and all(torch.equal(loaded[n], x) for n, x in own.items())


def test_another_token_embedding_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    state = published(small_model())
    with caplog.at_level(logging.WARNING):
        load_checkpoint(small_model(seed=1), state)
    assert "another token embedding" in caplog.text
    caplog.clear()
    load_checkpoint(small_model(), state)
    assert not caplog.text


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the name and shape that published configs are pickled from, then gone."""
    module = types.ModuleType("omegaconf.dictconfig")
    for name in ("DictConfig", "AnyNode"):
        cls = type(name, (), {"__module__": module.__name__})
        setattr(module, name, cls)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def config_object(module: Any, values: dict[str, Any]) -> Any:
    def node(value: Any) -> Any:
        if isinstance(value, dict):
            made = module.DictConfig()
            made.__dict__["_content"] = {k: node(v) for k, v in value.items()}
        else:
            made = module.AnyNode()
            made.__dict__["_val"] = value
        return made

    return node(values)


def test_the_config_object_is_read_without_its_library(
    tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(context_tokens=5, merge_step=4)
    config = config_object(
        omegaconf,
        {"trainer": {"context_token_k": 5, "tome_r": 4, "prompt_generation_layer_level": 3},
         "num_frames": 4, "context_length": 20, "output": "somewhere"},
    )  # fmt: skip
    path = save_published(model, tmp_path / "best.pth", config=config)
    for name in ("omegaconf", "omegaconf.dictconfig"):
        monkeypatch.delitem(sys.modules, name)

    shown = describe(path)
    assert shown["format"] == "published"
    assert (shown["epoch"], shown["max_accuracy"]) == (7, 54.2)
    assert shown["class_names"] is None and not shown["token_embedding"]
    settings = shown["model"]
    assert (settings["context_tokens"], settings["merge_step"]) == (5, 4)
    assert (settings["num_frames"], settings["text_length"]) == (4, 20)
    assert settings["prompt_layers"] == [3]
    assert settings["geometry"]["vision_layers"] == 3
    load_checkpoint(model, path)
    assert "omegaconf" not in sys.modules


def test_convert(tmp_path: Path) -> None:
    model = small_model()
    path = save_published(model, tmp_path / "best.pth")
    convert(path, tmp_path / "own.safetensors")
    other = small_model()
    other.vision.class_embedding.data.zero_()
    load_checkpoint(other, tmp_path / "own.safetensors")
    assert torch.equal(logits(other), logits(model))
    with pytest.raises(ValueError, match="already"):
        convert(tmp_path / "own.safetensors", tmp_path / "again.safetensors")


def test_hub_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_published(small_model(), tmp_path / "best.pth")
    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    load_checkpoint(small_model(), "hf://byminji/TC-CLIP/zero_shot/best.pth")
    load_checkpoint(small_model(), "hf://me/mine")
    assert asked == [("byminji/TC-CLIP", "zero_shot/best.pth"), ("me/mine", "model.safetensors")]
    with pytest.raises(ValueError, match="is not hf://owner/repository or hf://owner"):
        load_checkpoint(small_model(), "hf://mine")


# ---- Files that must not load ----


@pytest.mark.parametrize("call", [eval, exec, getattr, __import__, torch.hub.load, shutil.rmtree])
def test_no_function_is_called(tmp_path: Path, call: Any) -> None:
    class CallsIt:
        def __reduce__(self) -> Any:
            return call, ("1",)

    path = save_published(small_model(), tmp_path / "bad.pth", config=CallsIt())
    with pytest.raises(ValueError, match=f"asks to call .*{call.__name__}"):
        load_checkpoint(small_model(), path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(small_model(), tmp_path / "none.pth")


def without(name: str) -> dict[str, Tensor]:
    state = published(small_model())
    del state[f"module.image_encoder.{name}"]
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: without("ln_post.bias"), "missing: vision.ln_post.bias; unexpected: none"),
        (
            lambda: without("transformer.resblocks.0.attn.k_proj.bias"),
            "missing: vision.blocks.0.attn.in_proj_bias; unexpected",
        ),
        (
            lambda: small_model().state_dict() | {"surprise": torch.zeros(1)},
            "missing: none; unexpected: surprise",
        ),
        (
            lambda: published(small_model(prompt_length=6)),
            "prompt_vectors (6, 24) instead of (4, 24)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_checkpoint(small_model(), state())


def test_a_refused_checkpoint_changes_nothing() -> None:
    model = small_model()
    before = logits(model)
    state = dict(small_model(seed=1).state_dict())
    del state["logit_scale"]
    with pytest.raises(ValueError, match="missing: logit_scale"):
        load_checkpoint(model, state)
    assert torch.equal(logits(model), before)


# ---- Weight ensembling ----


def test_ensembling_mixes_what_clip_has() -> None:
    start, tuned = small_model(seed=0), small_model(seed=1)
    model = small_model(seed=0)
    load_checkpoint(model, tuned.state_dict(), ensemble_weight=0.7)
    a, b, mixed = start.state_dict(), tuned.state_dict(), model.state_dict()
    for name, x in mixed.items():
        expected = 0.3 * a[name] + 0.7 * b[name] if is_clip_parameter(name) else b[name]
        torch.testing.assert_close(x, expected, msg=name)
    kept = {name.split(".")[1] for name in mixed if not is_clip_parameter(name)}
    assert kept == {"blocks", "prompt_vectors", "prompters"}
    tables = [name for name in mixed if not is_clip_parameter(name) and ".blocks." in name]
    assert tables == ["vision.blocks.1.bias_table", "vision.blocks.2.bias_table"]


def test_ensembling_with_weight_0_and_1(tmp_path: Path) -> None:
    start, tuned = small_model(seed=0).state_dict(), small_model(seed=1).state_dict()
    whole = ensembled_state(start, tuned, 1.0)
    none = ensembled_state(start, tuned, 0.0)
    assert all(torch.equal(whole[name], tuned[name]) for name in tuned)
    assert all(torch.equal(none[n], start[n]) for n in tuned if is_clip_parameter(n))


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_ensembling_needs_a_share(weight: float) -> None:
    state = small_model().state_dict()
    with pytest.raises(ValueError, match="is not between 0"):
        ensembled_state(state, state, weight)


def test_openai_names_are_those_of_our_parameters_that_clip_has() -> None:
    ours = [name for name in small_model().state_dict() if is_clip_parameter(name)]
    assert sorted(map(from_openai, clip_shapes(SMALL))) == sorted(ours)


def test_an_own_checkpoint_of_another_name_needs_its_json(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(small_model(), path)
    renamed = path.rename(tmp_path / "best.pth")
    assert describe(renamed)["format"] == "own"
    renamed = renamed.rename(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"no other\.json beside .*under one name"):
        describe_checkpoint(renamed)
