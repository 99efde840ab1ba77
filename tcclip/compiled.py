"""`torch.compile` where shapes are static, with eager computing to fall back on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Compiled(Generic[P, T]):
    """A function of tensors and models, compiled if `enabled`; as CUDA graphs on a GPU.

    On CUDA, what a call returns is valid until the next call of anything compiled. Other models of
    the same settings share the code. Every other shape is compiled anew, so shapes must be few.
    """

    def __init__(self, function: Callable[P, T], *, enabled: bool, device: torch.device) -> None:
        self._function, self.enabled = function, enabled
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._compiled = (
            torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
            if enabled
            else function
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self.enabled:
            return self._function(*args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return self._compiled(*args, **kwargs)
        except RuntimeError as error:
            if not self.give_up(error):
                raise
            return self._function(*args, **kwargs)

    def give_up(self, error: RuntimeError) -> bool:
        """Compute without compiling from now on, and warn; False if that would not help."""
        if not self.enabled or isinstance(error, torch.OutOfMemoryError):
            return False
        self.enabled = False
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("slower from here on, as torch.compile failed: %s", reason)
        return True
