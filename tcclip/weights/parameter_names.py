"""The same parameters under three names: ours, OpenAI CLIP's, the published TC-CLIP's.

    ours                         OpenAI                  published
    logit_scale                  logit_scale             logit_scale
    vision.X                     visual.X                image_encoder.X
    text.X                       X                       text_encoder.X
    (either).blocks.i.X          transformer.resblocks.i.X, both
    text.token_embedding.weight  token_embedding.weight  -
    vision.blocks.i.bias_table   -                       ...attn.local_global_bias_table
    text.prompt_vectors          -                       prompt_learner.ctx
    text.prompters.j.X           -                       text_encoder.prompt_generation_layer.j.X

TC-CLIP's published vision layers hold Q, K and V separately (q_proj, k_proj, v_proj); ours and
CLIP's pack them into one matrix (in_proj), stacked in this order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set

import torch
from torch import Tensor

TOKEN_EMBEDDING = "text.token_embedding.weight"
#: Names that an error lists; it only counts the rest.
LISTED = 6
#: Published buffers that hold the training classes; they are rebuilt from the class names.
PUBLISHED_CLASS_BUFFERS = (
    "prompt_learner.token_prefix",
    "prompt_learner.token_suffix",
    "prompt_learner.complete_text_embeddings",
)


def is_clip_parameter(name: str) -> bool:
    """Whether CLIP has this parameter; weight ensembling leaves the others fine-tuned (SPEC 5)."""
    ours = name.startswith(("text.prompt_vectors", "text.prompters."))
    return not ours and not name.endswith(".bias_table")


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(sorted(names)[:LISTED]) or "none") + more


def mismatch(expected: Set[str], found: Set[str]) -> str:
    """Which names are missing and which unexpected; empty if none is."""
    if expected == found:
        return ""
    return f"missing: {listed(expected - found)}; unexpected: {listed(found - expected)}"


def from_openai(name: str) -> str:
    """`visual.transformer.resblocks.0.ln_1.weight` -> `vision.blocks.0.ln_1.weight`."""
    if name == "logit_scale":
        return name
    name = name.replace("transformer.resblocks.", "blocks.")
    if name.startswith("visual."):
        return f"vision.{name.removeprefix('visual.')}"
    return f"text.{name}"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under our names, without "module." and the class buffers."""
    plain = {name.removeprefix("module."): x for name, x in state.items()}
    return _pack(
        {_ours(name): x for name, x in plain.items() if name not in PUBLISHED_CLASS_BUFFERS}
    )


def _ours(name: str) -> str:
    if name == "prompt_learner.ctx":
        return "text.prompt_vectors"
    name = name.replace("text_encoder.prompt_generation_layer.", "text.prompters.")
    name = name.replace("transformer.resblocks.", "blocks.")
    name = name.replace(".attn.local_global_bias_table", ".bias_table")
    return re.sub(r"^image_encoder\.", "vision.", re.sub(r"^text_encoder\.", "text.", name))


def _pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack separate Q, K and V projections; a part without its siblings keeps its name."""
    packed = dict(state)
    for name in state:
        part = re.fullmatch(r"(.*\.attn\.)q_proj\.(weight|bias)", name)
        if part is None:
            continue
        siblings = [f"{part[1]}{q}_proj.{part[2]}" for q in "qkv"]
        if all(s in state for s in siblings):
            packed[f"{part[1]}in_proj_{part[2]}"] = torch.cat([packed.pop(s) for s in siblings])
    return packed
