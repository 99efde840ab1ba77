"""The same parameters under several names: ours, OpenAI CLIP's, the published TC-CLIP's, and those
of Hugging Face's CLIP and of open_clip's models with a text tower of their own.

    ours                         OpenAI                  published
    logit_scale                  logit_scale             logit_scale
    vision.X                     visual.X                image_encoder.X
    text.X                       X                       text_encoder.X
    (either).blocks.i.X          transformer.resblocks.i.X, both
    text.token_embedding.weight  token_embedding.weight  -
    vision.blocks.i.bias_table   -                       ...attn.local_global_bias_table
    text.prompt_vectors          -                       prompt_learner.ctx
    text.prompters.j.X           -                       text_encoder.prompt_generation_layer.j.X

TC-CLIP's published vision layers and Hugging Face's CLIP hold Q, K and V separately (q_proj,
k_proj, v_proj); ours and OpenAI's pack them into one matrix (in_proj), stacked in this order.
Hugging Face's projections are linear layers: OpenAI's matrices, transposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Set

import torch
from torch import Tensor

TOKEN_EMBEDDING = "text.token_embedding.weight"
#: Names that an error lists; it only counts the rest.
LISTED = 6
#: CLIP's parameters under our names.
CLIP_PARAMETER = re.compile(
    r"logit_scale"
    r"|vision\.(conv1\.weight|class_embedding|positional_embedding|proj|ln_(pre|post)\.(weight|bias))"
    r"|text\.(token_embedding\.weight|positional_embedding|text_projection|ln_final\.(weight|bias))"
    r"|(vision|text)\.blocks\.\d+\.(ln_[12]|attn\.out_proj|mlp\.c_(fc|proj))\.(weight|bias)"
    r"|(vision|text)\.blocks\.\d+\.attn\.in_proj_(weight|bias)"
)
#: Hugging Face's names -> OpenAI's, applied one after the other.
HUGGINGFACE = (
    (r"^(visual|text)_projection\.weight$", r"\1_projection"),
    (r"^visual_projection$", "visual.proj"),
    (r"^vision_model\.", "visual."),
    (r"^text_model\.", ""),
    (r"\bencoder\.layers\.", "transformer.resblocks."),
    (r"\bembeddings\.patch_embedding\.", "conv1."),
    (r"\bembeddings\.class_embedding$", "class_embedding"),
    (r"\bembeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"\bembeddings\.token_embedding\.", "token_embedding."),
    (r"\bpre_laye?rnorm\.", "ln_pre."),  # the published name lacks the e
    (r"\bpost_layernorm\.", "ln_post."),
    (r"\bfinal_layer_norm\.", "ln_final."),
    (r"\blayer_norm([12])\.", r"ln_\1."),
    (r"\bself_attn\.", "attn."),
    (r"\bmlp\.fc1\.", "mlp.c_fc."),
    (r"\bmlp\.fc2\.", "mlp.c_proj."),
)


def is_clip_parameter(name: str) -> bool:
    """Whether CLIP has this parameter; weight ensembling leaves the others fine-tuned (SPEC 5)."""
    return CLIP_PARAMETER.fullmatch(name) is not None


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(map(printable, sorted(names)[:LISTED])) or "none") + more


def printable(text: str, most: int = 200) -> str:
    """The beginning of a text from a file, without what would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


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


def from_published(
    state: Mapping[str, Tensor], published_name: Callable[[str], str | None]
) -> dict[str, Tensor]:
    """A method's published state dict under our names (`Method.published_name`)."""
    renamed = {published_name(name): x for name, x in state.items()}
    return _pack({_ours(name): x for name, x in renamed.items() if name is not None})


def from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's CLIPModel under OpenAI's names; the values stay as they are."""
    renamed = {}
    for name, x in state.items():
        if name.endswith(".position_ids"):  # 0, 1, 2, ...
            continue
        plain = name
        for theirs, openai in HUGGINGFACE:
            plain = re.sub(theirs, openai, plain)
        projection = name.endswith("_projection.weight") and x.ndim == 2
        renamed[plain] = x.t().contiguous() if projection else x
    return _pack(renamed)


def _ours(name: str) -> str:
    """OpenAI's name under ours; one of ours as it is."""
    return name if name.startswith(("vision.", "text.")) else from_openai(name)


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
