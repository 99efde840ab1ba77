"""Whose weights a file holds is told by its tensors' names, whatever wrote and wrapped it."""

import logging
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tcclip.config import ModelConfig
from tcclip.model import build_model, create_model, load_checkpoint, save_checkpoint
from tcclip.model.checkpoints import convert, describe
from tcclip.weights.clip_weights import checked_clip, clip_shapes
from tcclip.weights.layouts import LAYOUTS, layout_of, look_at
from tests.tcclip.model.builders import NAMES, SMALL, small_config, small_model, small_video
from tests.tcclip.model.test_checkpoints import published
from tests.tcclip.weights.made import (
    as_module,
    clip_of_open_clip,
    openai_state,
    save_openai_script,
    to_huggingface,
)

ONE = torch.ones(1)
OPENAI = openai_state()


def clip_from(path: Path) -> dict[str, Tensor]:
    state, geometry = checked_clip(path, ModelConfig(geometry=SMALL))
    assert geometry == SMALL
    return dict(state)


def assert_openai(path: Path, dtype: torch.dtype = torch.float32) -> None:
    """The file gives the small CLIP's tensors, every one the same to the bit."""
    found = clip_from(path)
    assert found.keys() == OPENAI.keys()
    for name, x in OPENAI.items():
        assert torch.equal(found[name], x.to(dtype)), name


# ---- CLIP's weights ----


@pytest.mark.parametrize("traced", [False, True])
def test_openais_own_file(tmp_path: Path, traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_openai_script(tmp_path / "ViT-B-16.pt", OPENAI, traced=traced)
    monkeypatch.setattr(torch.jit, "load", None)
    assert_openai(path, torch.float16)
    shown = describe(path)
    assert (shown["format"], shown["holds"]) == ("clip", "CLIP with OpenAI's names")
    assert "float16" in shown["dtypes"]
    model = build_model(small_config(), NAMES, clip_weights=path)
    assert torch.equal(model.vision.proj, OPENAI["visual.proj"].half().float())


@pytest.mark.parametrize("suffix", ["bin", "safetensors", "legacy"])
@pytest.mark.parametrize("norm", ["pre_layrnorm", "pre_layernorm"])
def test_hugging_face(tmp_path: Path, suffix: str, norm: str) -> None:
    state, path = to_huggingface(OPENAI, norm=norm), tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix == "bin")
    assert look_at(path).layout.name == "CLIP with Hugging Face's names"
    assert_openai(path)


def features(quick_gelu: bool, **settings: Any) -> tuple[Tensor, Tensor]:
    """Class features by open_clip's own model and by ours, from its weights in a dict."""
    torch.manual_seed(0)
    reference = clip_of_open_clip(quick_gelu)
    for parameter in reference.parameters():  # so loud that the activation matters
        parameter.data.mul_(3)
    path = settings.pop("path")
    save_file(to_huggingface({n: x.contiguous() for n, x in reference.state_dict().items()}), path)
    model = build_model(small_config(name="clip", **settings), NAMES, clip_weights=path).eval()
    texts = open_clip.tokenize(["Apply Eye Makeup", "brush_hair", "pull ups", "yoyo"])
    video = small_video()
    with torch.no_grad():
        text = reference.encode_text(texts, normalize=True)
        frames = reference.encode_image(video.flatten(0, 1)).view(2, 4, -1).mean(1)
        expected = torch.cat([text, torch.nn.functional.normalize(frames, dim=-1)])
        found = model.encode_classes().features
        assert found is not None
        return expected, torch.cat([found, model.encode_video(video).feature])


@pytest.mark.parametrize("gelu", [False, True])
def test_converted_weights_compute_what_open_clip_does(tmp_path: Path, gelu: bool) -> None:
    setting: dict[str, Any] = {"activation": "gelu"} if gelu else {}
    expected, found = features(not gelu, path=tmp_path / "model.safetensors", **setting)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_wrong_activation_gives_other_numbers(tmp_path: Path) -> None:
    expected, found = features(False, path=tmp_path / "model.safetensors")
    assert (found - expected).abs().max() > 1e-3


def test_an_open_clip_training_file_is_named(tmp_path: Path) -> None:
    content = {"epoch": 3, "name": "ViT-B-16", "state_dict": prefixed(OPENAI, "module.")}
    torch.save(content, tmp_path / "epoch_3.pt")
    assert describe(tmp_path / "epoch_3.pt")["holds"] == "CLIP in an open_clip training file"


@pytest.mark.parametrize(
    "content",
    [
        lambda s: {"epoch": 32, "name": "ViT-B-16", "state_dict": prefixed(s, "module."),
                   "optimizer": {"state": {0: {"exp_avg": ONE}}}, "scaler": {"scale": 1.0}},
        lambda s: {"model": prefixed(s, "_orig_mod.module.")},
        lambda s: {"model_state_dict": prefixed(s, "clip_model.")},
        lambda s: {"model_ema": prefixed(s, "module.") | {"n_averaged": torch.tensor(3)}},
        lambda s: {"trainer": {"checkpoint": {"model": s}}},
        lambda s: {"state_dict": prefixed(s, "model.clip."), "hyper_parameters": {"lr": 1e-3}},
        lambda s: s | {"input_resolution": torch.tensor(32), "epoch": 3},
        lambda s: {
            n if n.startswith("visual.") or n == "logit_scale" else f"text.{n}": x
            for n, x in s.items()
        },
        as_module,
    ],
)  # fmt: skip
def test_wrapped_weights_are_unwrapped(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "epoch_32.pt"
    torch.save(content(OPENAI), path)
    assert_openai(path)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": x for name, x in state.items()}


def test_the_model_and_not_its_average_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    average = {name: x + 1 for name, x in OPENAI.items()} | {"n_averaged": torch.tensor(3)}
    torch.save({"state_dict_ema": average, "state_dict": OPENAI}, tmp_path / "last.pt")
    with caplog.at_level(logging.WARNING):
        assert_openai(tmp_path / "last.pt")
    assert "reading 'state_dict', not 'state_dict_ema'" in caplog.text
    assert describe(tmp_path / "last.pt")["left_out"] == ["'state_dict_ema'"]


def test_names_that_become_one(tmp_path: Path) -> None:
    torch.save({"visual.proj": ONE, "module.visual.proj": ONE}, tmp_path / "two.pt")
    with pytest.raises(ValueError, match=r"two\.pt: it holds several tensors of the same name"):
        look_at(tmp_path / "two.pt")


def test_other_heads_than_64_columns_wide() -> None:
    """open_clip's ViT-H has 16 heads of 80 columns, which no shape shows."""
    wide = SMALL.model_copy(update={"vision_width": 1280, "vision_heads": 16, "vision_layers": 1})
    state = {"visual.conv1.weight": torch.empty(1280, 3, 8, 8, device="meta")}
    state |= {n: torch.empty(shape, device="meta") for n, shape in clip_shapes(wide).items()}
    assert checked_clip(state, ModelConfig())[1].vision_heads == 16


# ---- Everything else is named ----

XCLIP = {"visual.conv1.weight": ONE, "visual.proj": ONE, "transformer.resblocks.0.ln_1.bias": ONE}
OTHERS: dict[str, Any] = {
    "X-CLIP": {"model": prefixed(XCLIP | {"mit.positional_embedding": ONE}, "module.")},
    "X-CLIP ": XCLIP | {"visual.transformer.resblocks.0.message_fc.weight": ONE},
    "X-CLIP  ": {"text_model.encoder.layers.0.mlp.fc1.bias": ONE,
                 "vision_model.encoder.layers.0.message_attn.q_proj.bias": ONE,
                 "prompts_generator.alpha": ONE},
    "ActionCLIP": {"model_state_dict": XCLIP, "fusion_model_state_dict": {
        "module.transformer.resblocks.0.ln_1.bias": ONE}},
    "ActionCLIP ": {"model_state_dict": XCLIP, "fusion_model_state_dict": {}},
    "FROSTER": {"model_state": prefixed(XCLIP, "model.") | prefixed(XCLIP, "raw_model.")},
    "FROSTER ": {"model_state": prefixed(XCLIP | {"projector_v.fc.bias": ONE}, "module.model.")},
    "vision-language prompts": {"model": {
        "module.image_encoder.VPT": ONE, "module.text_encoder.ln_final.bias": ONE,
        "module.image_encoder.transformer.resblocks.1.VPT_shallow": ONE,
        "module.prompt_learner.ctx": ONE}},
    "vision-language prompts ": {"model": {
        "image_encoder.transformer.resblocks.0.attn.in_proj_weight": ONE,
        "text_encoder.ln_final.bias": ONE, "prompt_learner.ctx": ONE}},
    "prompt learner": {"state_dict": {"ctx": ONE, "token_prefix": ONE, "token_suffix": ONE}},
    "CLIP ResNet": {"visual.layer1.0.conv1.weight": ONE, "visual.attnpool.proj": ONE,
                    "transformer.resblocks.0.ln_1.bias": ONE},
    "timm or EVA": {"visual.trunk.blocks.0.norm1.weight": ONE, "text.ln_final.bias": ONE},
    "SigLIP": {"logit_bias": ONE, "vision_model.head.probe": ONE, "text_model.head.bias": ONE},
    "one tower": {"vision_model.encoder.layers.0.mlp.fc1.bias": ONE,
                  "visual_projection.weight": ONE},
    "LoRA": {"base_model.model.visual.transformer.resblocks.0.attn.out_proj.lora_A.weight": ONE},
    "adapters": XCLIP | {"visual.transformer.resblocks.0.S_Adapter.D_fc1.weight": ONE},
    "without a text tower": {"module": {"blocks.0.attn.qkv.weight": ONE, "head.weight": ONE}},
    "unknown names": {"layer4.0.conv1.weight": ONE},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_other_models_are_named(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(OTHERS[name], path, _use_new_zipfile_serialization=form == "zip")
    for use in (describe, lambda p: load_checkpoint(small_model(), p),
                lambda p: convert(p, tmp_path / "own.safetensors")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"other\.pth is no checkpoint .*{name.strip()}"):
            use(path)
    with pytest.raises(ValueError, match=r"other\.pth.*(holds no plain CLIP|not the weights of)"):
        clip_from(path)
    assert list(tmp_path.iterdir()) == [path]


def test_clip_weights_are_no_checkpoint_and_a_checkpoint_no_clip_weights(tmp_path: Path) -> None:
    clip, tuned = tmp_path / "clip.pt", tmp_path / "best.pth"
    torch.save(OPENAI, clip)
    with pytest.raises(ValueError, match=rf"OpenAI's names; .*--set train\.clip_weights={clip}"):
        load_checkpoint(small_model(), clip)
    torch.save({"model": published(small_model())}, tuned)
    with pytest.raises(ValueError, match=r"published TC-CLIP.*with --init-checkpoint"):
        clip_from(tuned)
    save_checkpoint(small_model(), tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"it is a checkpoint .*--init-checkpoint"):
        clip_from(tmp_path / "own.safetensors")


@pytest.mark.parametrize("name", ["tc_clip", "vifi_clip"])
@pytest.mark.parametrize("wrap", ["model", "model_ema", "state_dict", ""])
def test_published_checkpoints_however_wrapped(tmp_path: Path, name: Any, wrap: str) -> None:
    model = small_model(name=name)
    state = prefixed(published(model), "_orig_mod.")
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "best.pth")
    assert describe(tmp_path / "best.pth")["model"]["name"] == name
    other = small_model(name=name, seed=1)
    other.text.token_embedding.load_state_dict(model.text.token_embedding.state_dict())
    load_checkpoint(other, tmp_path / "best.pth")
    for parameter, expected in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_each_row_of_the_table_is_reached() -> None:
    """No row stands before another that it hides."""
    reached = set()
    for content in OTHERS.values():
        states = content.values() if all(isinstance(x, dict) for x in content.values()) else ()
        for names in ([f"{key}.{n}" for key, x in content.items() if isinstance(x, dict) for n in x]
                      or list(content), *map(list, states)):  # fmt: skip
            reached.add(layout_of(names).name)
    files = {layout_of(list(one)).name for one in (OPENAI, to_huggingface(OPENAI))}
    known = {row.name for row in LAYOUTS if row.use is None}
    assert known - reached <= {"CoCa", "a ViT without a text tower (Hugging Face)"}
    assert files == {"CLIP with OpenAI's names", "CLIP with Hugging Face's names"}


def test_a_model_with_gelu_is_kept_as_such(tmp_path: Path) -> None:
    save_checkpoint(small_model(activation="gelu"), tmp_path / "best.safetensors")
    assert describe(tmp_path / "best.safetensors")["model"]["activation"] == "gelu"
    with pytest.raises(ValueError, match=r"trained with model\.activation=gelu"):
        load_checkpoint(small_model(), tmp_path / "best.safetensors")
    load_checkpoint(small_model(activation="gelu"), tmp_path / "best.safetensors")
    save_checkpoint(create_model("clip", NAMES, geometry=SMALL), tmp_path / "quick.safetensors")
    assert "activation" not in describe(tmp_path / "quick.safetensors")["model"]
