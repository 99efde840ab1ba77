"""TC-CLIP for video action recognition: the models and how they learn (plain PyTorch).

`create_model` and `load_checkpoint` are loaded on first use: importing this package, or
`tcclip.config`, does not import torch.
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
