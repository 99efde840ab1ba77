"""CLIP towers, temporal contextualization, video prompting and checkpoints (SPEC 2, 8).

In: a `ModelConfig`, class names and CLIP weights; then videos (B, T, 3, height, width), float,
normalised. Out: `Model`, whose call gives an `Output` with logits (B, n). Plain PyTorch without
files or processes, except for `checkpoints`. Anybody may call what is imported here.

Read `tc_clip` (the model as a whole), `vision` with `frame_attention` and `merging`, `text` with
`tokens`, `layers`, then `build` (settings and weights to a model) and `checkpoints`.
"""

from tcclip.model.build import build_model, create_model
from tcclip.model.checkpoints import load_checkpoint, save_checkpoint
from tcclip.model.tc_clip import Model

__all__ = ["Model", "build_model", "create_model", "load_checkpoint", "save_checkpoint"]
