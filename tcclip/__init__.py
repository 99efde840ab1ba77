"""TC-CLIP for video action recognition: the models and how they are trained (plain PyTorch).

In: settings (`config`), annotation lists and videos (`data`), CLIP weights (`weights`). Out: a
model (`model`), its training (`train`) and its scores (`evaluate`). It knows nothing of
protocols, runs or clusters; `experiments.worker` puts the parts together, and what is
imported here is for everybody: on first use, so that importing this package or `tcclip.config` does
not import torch. `load` makes a predictor of a checkpoint: `tcclip.load(FILE).predict("clip.mp4")`,
and `explain` shows what it saw.

Read `config`, `model/`, `data/`, `train` (with `schedule` and `distributed`), `evaluate` (with
`accuracy`), `predict/`, `explanation/`, `export/` (leaving with a model); `model_size` is what a
model costs, `memory` finds the micro-batch that fits a GPU, `text_files` reads text, JSON and YAML.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcclip.explanation import Explanation, explain
    from tcclip.model import Model, create_model, load_checkpoint
    from tcclip.predict import Prediction, Predictor, load

#: Name -> the package it is in.
_WHERE = {
    "Explanation": "explanation",
    "Model": "model",
    "Prediction": "predict",
    "Predictor": "predict",
    "create_model": "model",
    "explain": "explanation",
    "load": "predict",
    "load_checkpoint": "model",
}
__all__ = [
    "Explanation", "Model", "Prediction", "Predictor", "create_model", "explain", "load",
    "load_checkpoint",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"tcclip.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'tcclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
