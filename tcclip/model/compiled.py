"""Parts of the vision tower, compiled: one code for all layers and all models of the same settings.

Compiling the tower as a whole takes many times as long, for the same speed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._functorch import config as functorch_config

log = logging.getLogger(__name__)

Function = Callable[..., Any]
#: How a function is run: as it is, or compiled.
Run = Callable[[Function], Function]
#: How often a function may be compiled: kinds of layers, with gradients or without, batch sizes.
LIMIT = 64


def eagerly(function: Function) -> Function:
    """The function itself."""
    return function


@dataclass
class Compiler:
    """Runs functions compiled; eagerly, after one warning, once compiling has failed.

    Each shape of the inputs is compiled anew, so they must be few.
    """

    enabled: bool = True
    #: Whether its numbers have been compared with those of eager code.
    compared: bool = False
    _compiled: dict[Function, Function] = field(default_factory=dict)

    def __call__(self, function: Function) -> Function:
        """`function`, which is compiled when it is first called."""
        if not self.enabled:
            return function
        if function not in self._compiled:
            compiled = torch.compile(function, dynamic=False, fullgraph=True)
            torch._dynamo.config.recompile_limit = LIMIT
            # As eagerly: float32 parts have float32 gradients, whatever autocast was on before.
            functorch_config.backward_pass_autocast = "off"
            self._compiled[function] = self._guarded(function, compiled)
        return self._compiled[function]

    def _guarded(self, function: Function, compiled: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.enabled:
                return function(*args, **kwargs)
            try:
                return compiled(*args, **kwargs)
            except RuntimeError as error:
                if not self.give_up(error):
                    raise
                return function(*args, **kwargs)

        return run

    def give_up(self, error: RuntimeError) -> bool:
        """Compute without compiling from now on, and warn; False if that would not help."""
        if not self.enabled or isinstance(error, torch.OutOfMemoryError):
            return False
        self.enabled = False
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("slower from here on, as torch.compile failed: %s", reason)
        return True
