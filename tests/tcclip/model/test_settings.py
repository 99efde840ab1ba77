"""Settings that cannot be built are refused with what to do; the rest do what they say."""

import math
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

import tcclip
from tcclip.config import Geometry, ModelConfig
from tcclip.model import Model, build_model, create_model
from tcclip.model.tokens import normalise_name, tokenise, word_ids
from tests.golden.seeding import clip_weights
from tests.tcclip.model.builders import NAMES, SMALL, small_config, small_model, small_video
from tests.tcclip.weights.made import clip_of_open_clip
from tests.tcclip.weights.test_hostile_files import program


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_layers": (12,)}, r"prompt_layers \(12,\) must be different layers from 1 to 3"),
        ({"prompt_layers": (1, 1)}, "must be different layers"),
        ({"prompt_layers": ()}, "to prompt none, set video_prompting=False"),
        ({"context_tokens": 17}, "make 16 seed tokens, fewer than context_tokens=17"),
        ({"seed_ratio": 0.01}, "leaves no seed of 16 patches a frame; raise it to at least 0.0625"),
        ({"text_length": 78}, "text_length 78 is more than the 77 positions"),
        ({"text_length": 6}, "class name 'ApplyEyeMakeup' needs"),
        (
            {"name": "clip", "frame_attention": "joint"},
            "clip has frame_attention 'none'",
        ),
        ({"geometry": None, "backbone": "ViT-X"}, "unknown backbone 'ViT-X'; known: ViT-B-16"),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(small_config(**settings), NAMES)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="context_token\n"):
        create_model("tc_clip", NAMES, context_token=5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 3, 16, 16), r"has shape \(2, 4, 3, 16, 16\); this model takes \(batch, frames, 3"),
        ((4, 3, 32, 32), "this model takes"),
        ((1, 1, 3, 32, 32), "1 frames of 4 seeds make 4 seed tokens"),
    ],
)
def test_videos_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model()(torch.zeros(shape))


def test_joint_positions_fix_the_number_of_frames() -> None:
    small_model()(small_video(frames=6))
    with pytest.raises(ValueError, match="has 6 frames, but joint positional embeddings"):
        small_model(positional_embedding="joint")(small_video(frames=6))


# ---- Class names ----


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("brush_hair", "brush hair"),
        ("pull ups", "pull ups"),
        ("Putting [something] on  a Shelf", "Putting [something] on a Shelf"),
    ],
)
def test_name_normalisation(name: str, text: str) -> None:
    assert normalise_name(name) == text


def test_tokens_are_those_of_the_whole_sentence() -> None:
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=30)
    names = ["ApplyEyeMakeup", "brush_hair", "eating spaghetti, with 's sauce"]
    prompts = tokenise(names, ModelConfig(video_prompting=False), torch.device("cpu"))
    ids = torch.cat([prompts.prefix.expand(3, -1), prompts.suffix], dim=1)
    texts = [f"a photo of a {normalise_name(name)}." for name in names]
    assert torch.equal(ids, tokenizer(texts)[:, : ids.shape[1]])
    assert torch.equal(prompts.eot + 5, tokenizer(texts).argmax(-1))


def test_the_longest_possible_name() -> None:
    need = 1 + 4 + len(word_ids("pull ups.")) + 1
    config, cpu = ModelConfig(text_length=need), torch.device("cpu")
    tokenise(["pull ups"], config, cpu)
    with pytest.raises(ValueError, match=r"'pull ups' needs 4 tokens, but only 3 are left"):
        tokenise(["pull ups"], config.model_copy(update={"text_length": need - 1}), cpu)


@pytest.mark.parametrize("names", [[], [""], ["_"], "brush_hair"])
def test_no_names(names: Any) -> None:
    with pytest.raises(ValueError, match=r"give a list of at least one|is empty"):
        small_model().set_class_names(names)


def test_set_class_names() -> None:
    model, other = small_model(), small_model(names=("a dog", "pull ups"))
    model.set_class_names(["a dog", "pull ups"])
    assert model.class_names == ("a dog", "pull ups")
    assert torch.equal(model(small_video()).logits, other(small_video()).logits)


# ---- Starting weights ----


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    a = build_model(small_config(), NAMES, seed=3).state_dict()
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "the global generator moved"
    b = build_model(small_config(), NAMES, clip_weights="random", seed=3).state_dict()
    c = build_model(small_config(), NAMES, seed=4).state_dict()
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["text.positional_embedding"], c["text.positional_embedding"])
    assert a["logit_scale"].item() == pytest.approx(math.log(1 / 0.07))


def test_the_geometry_comes_from_the_weights() -> None:
    sizes = Geometry(
        image_size=32, patch_size=16, vision_width=128, vision_layers=2, vision_heads=2,
        text_width=64, text_layers=1, text_heads=1, embed_dim=64, context_length=40,
    )  # fmt: skip
    model = create_model("vifi_clip", NAMES, clip_weights=clip_weights(0, sizes))
    assert model.config.sizes == sizes
    with pytest.raises(ValueError, match=r"contradicts the CLIP weights: image_size 32 "):
        build_model(
            small_config(geometry=SMALL.model_copy(update={"vision_layers": 2})),
            NAMES,
            clip_weights=clip_weights(0, SMALL.model_copy(update={"image_size": 64})),
        )


def test_weights_of_something_else() -> None:
    state = clip_weights(0, SMALL)
    del state["ln_final.bias"]
    with pytest.raises(ValueError, match=r"missing: ln_final.bias; unexpected: none"):
        build_model(small_config(), NAMES, clip_weights=state)
    with pytest.raises(ValueError, match="not the weights of an OpenAI-named CLIP ViT"):
        build_model(small_config(), NAMES, clip_weights={"layer4.0.weight": torch.zeros(1)})
    with pytest.raises(FileNotFoundError, match="no weights at"):
        build_model(small_config(), NAMES, clip_weights="nowhere.pt")


def test_openai_weights_come_through_open_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that it downloads is read as any other: nothing in it is run."""
    asked: list[Any] = []

    def download(about: dict[str, Any]) -> str:
        asked.append(about)
        return str(file)

    monkeypatch.setattr(open_clip, "download_pretrained", download)
    file = tmp_path / "open_clip_model.safetensors"
    expected = clip_of_open_clip().state_dict()
    save_file(expected, file)
    model = create_model("clip", NAMES, clip_weights="openai", backbone="ViT-B-32", geometry=SMALL)
    assert "vit_base_patch32_clip_224.openai" in asked[0]["hf_hub"]
    assert model.config.sizes == SMALL
    assert torch.equal(model.vision.conv1.weight, expected["visual.conv1.weight"])
    file.write_bytes(program())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"as downloaded: .*delete the file"):
        create_model("clip", NAMES, clip_weights="openai")
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(ValueError, match="OpenAI published no weights for backbone 'tiny'"):
        create_model("clip", NAMES, clip_weights="openai", backbone="tiny")


@pytest.mark.parametrize(("offline", "kind"), [(True, ValueError), (False, ConnectionError)])
def test_openai_weights_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, offline: bool, kind: Any
) -> None:
    def download(_: Any) -> str:
        raise FileNotFoundError("no route")

    monkeypatch.setattr(open_clip, "download_pretrained", download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(kind, match=r"could not be downloaded \(no route\).*clip_weights=FILE"):
        create_model("clip", NAMES, clip_weights="openai")


def test_import_is_lazy() -> None:
    import subprocess
    import sys

    code = "import sys, tcclip, tcclip.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert tcclip.create_model is create_model
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tcclip.nonsense


def test_defaults_make_the_published_model() -> None:
    config = ModelConfig()
    with torch.device("meta"):
        model = Model(config)
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # 127.5 million by the paper's count, which leaves the token embedding's 25 million out
    # of CLIP's 150 and adds one prompting layer.
    assert counted == pytest.approx(127.5e6, rel=0.005)


def test_learning_from_scratch() -> None:
    """From random weights, the tiny backbone tells four still pictures apart in a few steps."""
    model = create_model(
        "tc_clip", NAMES, backbone="tiny", prompt_layers=(2,), context_tokens=8, num_frames=8
    )
    labels = torch.arange(8) % 4
    pictures = small_video(4, frames=1, seed=1)
    video: Tensor = pictures[labels] + 0.3 * small_video(8, frames=8)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(model(video).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
