"""TC-CLIP for video action recognition: the models and how they are trained (plain PyTorch).

In: settings (`config`), annotation lists and videos (`data`), CLIP weights (`weights`). Out: a
model (`model`), its training (`train`) and its scores (`evaluate`). It knows nothing of
protocols, runs or clusters; `experiments.worker` puts the parts together, and `create_model` and
`load_checkpoint` are for everybody. They are imported on first use: importing this package or
`tcclip.config` does not import torch.

Read `config`, `model/`, `data/`, `train` (with `schedule` and `distributed`), `evaluate` (with
`accuracy`); `model_size` is what a model costs, `memory` finds the micro-batch that fits a GPU,
`text_files` reads text, JSON and YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcclip.model import create_model, load_checkpoint

__all__ = ["create_model", "load_checkpoint"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import tcclip.model

        return getattr(tcclip.model, name)
    raise AttributeError(f"module 'tcclip' has no attribute {name!r}")
