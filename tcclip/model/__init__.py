"""CLIP towers, temporal contextualization, prompting and checkpoints (SPEC 2, 8).

Read on: `tcclip.py` (the model), `vision.py`, `text.py`, `merging.py`, `build.py`.
"""

from tcclip.model.build import build_model, create_model
from tcclip.model.checkpoints import load_checkpoint, save_checkpoint
from tcclip.model.tc_clip import Intermediates, Model, Output, VideoFeatures
from tcclip.model.text import ClassFeatures

__all__ = [
    "ClassFeatures",
    "Intermediates",
    "Model",
    "Output",
    "VideoFeatures",
    "build_model",
    "create_model",
    "load_checkpoint",
    "save_checkpoint",
]
