"""Our weights under the published names: what the tests' published checkpoints are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from tcclip.weights.parameter_names import TOKEN_EMBEDDING


def to_published(state: Mapping[str, Tensor], *, split: bool) -> dict[str, Tensor]:
    """Our state dict under the published names; `split` Q, K and V of the vision layers.

    The token embedding, which published checkpoints do not hold, is left out.
    """
    result = {}
    for name, x in state.items():
        if name == TOKEN_EMBEDDING:
            continue
        packed = re.fullmatch(r"(vision\..*\.attn\.)in_proj_(weight|bias)", name)
        if split and packed:
            for part, rows in zip("qkv", x.chunk(3), strict=True):
                result[_published(f"{packed[1]}{part}_proj.{packed[2]}")] = rows
        else:
            result[_published(name)] = x
    return result


def _published(name: str) -> str:
    if name == "text.prompt_vectors":
        return "prompt_learner.ctx"
    name = name.replace("text.prompters.", "text_encoder.prompt_generation_layer.")
    name = name.replace(".blocks.", ".transformer.resblocks.")
    name = name.replace(".bias_table", ".attn.local_global_bias_table")
    return re.sub(r"^vision\.", "image_encoder.", re.sub(r"^text\.", "text_encoder.", name))
