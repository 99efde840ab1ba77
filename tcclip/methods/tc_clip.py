"""TC-CLIP (SPEC 2.1, 2.2) and its ablations: context tokens and video-conditional prompts.

What it computes is `tcclip.model`; all its settings are `ModelConfig`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tcclip.config import TrainConfig
from tcclip.methods.method import Method

#: Published buffers that hold the training classes; they are rebuilt from the class names.
CLASS_BUFFERS = (
    "prompt_learner.token_prefix",
    "prompt_learner.token_suffix",
    "prompt_learner.complete_text_embeddings",
)


def rate_scales(train: TrainConfig) -> Mapping[str, float]:
    """The prompt vectors and the VP layers learn faster (SPEC 4)."""
    return {"text.prompt": train.prompt_lr_scale}


def published_name(name: str) -> str | None:
    """`image_encoder.transformer.resblocks.0.ln_1.bias` -> `vision.blocks.0.ln_1.bias`."""
    if name in CLASS_BUFFERS:
        return None
    if name == "prompt_learner.ctx":
        return "text.prompt_vectors"
    name = name.replace("text_encoder.prompt_generation_layer.", "text.prompters.")
    name = name.replace("transformer.resblocks.", "blocks.")
    name = name.replace(".attn.local_global_bias_table", ".bias_table")
    return re.sub(r"^image_encoder\.", "vision.", re.sub(r"^text_encoder\.", "text.", name))


METHOD = Method(
    name="tc_clip",
    title="TC-CLIP",
    paper="https://arxiv.org/abs/2404.09490",
    rate_scales=rate_scales,
    published_keys=(
        r"\bimage_encoder\.",
        r"\bprompt_generation_layer\.|\blocal_global_bias_table$|image_.*\.attn\.q_proj\.",
    ),
    published_name=published_name,
    published_licence="cc-by-nc-4.0",
)
