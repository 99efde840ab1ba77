"""Small files of weights as other projects write them, made here."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from tcclip.weights.clip_weights import random_clip_state
from tests.tcclip.model.builders import SMALL


def openai_state(seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of a small CLIP ViT under OpenAI's names, biases and norms stirred too."""
    generator = torch.Generator().manual_seed(seed)
    state = random_clip_state(SMALL, generator)
    return {n: x + 0.05 * torch.randn(x.shape, generator=generator) for n, x in state.items()}


def clip_of_open_clip(quick_gelu: bool = True) -> CLIP:
    """open_clip's own model of the same size."""
    return CLIP(
        embed_dim=SMALL.embed_dim,
        vision_cfg=CLIPVisionCfg(layers=3, width=32, head_width=8, patch_size=8, image_size=32),
        text_cfg=CLIPTextCfg(width=24, layers=3, heads=2),
        quick_gelu=quick_gelu,
    ).eval()


class Node(nn.Module):
    """A module that only holds what is given to it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def as_module(state: Mapping[str, Tensor], *, buffers: tuple[str, ...] = ()) -> nn.Module:
    """A tree of modules with these parameters."""
    root = Node()
    for name, x in state.items():
        *above, leaf = name.split(".")
        node: nn.Module = root
        for part in above:
            if part not in node._modules:
                node.add_module(part, Node())
            node = node.get_submodule(part)
        if leaf in buffers:
            node.register_buffer(leaf, x)
        else:
            node.register_parameter(leaf, nn.Parameter(x, requires_grad=x.is_floating_point()))
    return root


def save_openai_script(path: Path, state: Mapping[str, Tensor], *, traced: bool = False) -> Path:
    """As OpenAI's own `ViT-B-16.pt`: a TorchScript program in half precision, with its sizes."""
    sizes = {"input_resolution": torch.tensor(SMALL.image_size), "vocab_size": torch.tensor(49408),
             "context_length": torch.tensor(77)}  # fmt: skip
    halves = {name: x.half() for name, x in state.items()}
    module = as_module(halves | sizes, buffers=tuple(sizes))
    module.get_submodule("transformer.resblocks.0").register_buffer("attn_mask", torch.zeros(3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its files are still there
        program = torch.jit.trace(module, torch.zeros(1)) if traced else torch.jit.script(module)
        torch.jit.save(program, str(path))
    return path


def to_huggingface(state: Mapping[str, Tensor], *, norm: str = "pre_layrnorm") -> dict[str, Tensor]:
    """OpenAI's names to those of transformers' CLIPModel, written down from its documentation."""
    theirs: dict[str, Tensor] = {
        "text_model.embeddings.position_ids": torch.arange(77).unsqueeze(0),
        "vision_model.embeddings.position_ids": torch.arange(SMALL.patches + 1).unsqueeze(0),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "logit_scale": state["logit_scale"],
    }
    whole = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    }
    for name, x in state.items():
        if name in whole:
            theirs[whole[name]] = x
        elif norms := re.fullmatch(r"(visual\.ln_pre|visual\.ln_post|ln_final)\.(.*)", name):
            module = {
                "visual.ln_pre": f"vision_model.{norm}",
                "visual.ln_post": "vision_model.post_layernorm",
                "ln_final": "text_model.final_layer_norm",
            }[norms[1]]
            theirs[f"{module}.{norms[2]}"] = x
        elif layer := re.fullmatch(r"(visual\.|)transformer\.resblocks\.(\d+)\.(.*)", name):
            tower = "vision_model" if layer[1] else "text_model"
            theirs |= _layer(f"{tower}.encoder.layers.{layer[2]}", layer[3], x)
    return theirs


def _layer(block: str, part: str, x: Tensor) -> dict[str, Tensor]:
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        return {
            f"{block}.self_attn.{q}_proj.{kind}": rows.clone()
            for q, rows in zip("qkv", x.chunk(3), strict=True)
        }
    named = {
        "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    }  # fmt: skip
    module, _, kind = part.rpartition(".")
    return {f"{block}.{named[module]}.{kind}": x}


class Calls:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)
