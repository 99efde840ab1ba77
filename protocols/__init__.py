"""The four published protocols, as data: training, evaluation, selection and statistic of each.

Out: `PROTOCOLS` and `get`; `datasets.DATASETS`; `manifest.manifest`, the published annotation
files. For the planner, data commands and reports; needs `tcclip.config` alone, no torch. A
protocol is frozen and versioned: run ids depend on every value, so a fix is a new version.

Read `protocol` (the fields), one of `zero_shot`, `few_shot`, `base_to_novel`, `fully_supervised`,
then `datasets`, `demo` (the same protocols in small) and `manifest`.
"""

from __future__ import annotations

from protocols.base_to_novel import BASE_TO_NOVEL
from protocols.demo import demo as _demo
from protocols.few_shot import FEW_SHOT
from protocols.fully_supervised import FULLY_SUPERVISED
from protocols.protocol import Protocol
from protocols.zero_shot import ZERO_SHOT

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (ZERO_SHOT, FEW_SHOT, BASE_TO_NOVEL, FULLY_SUPERVISED)
}


def get(name: str, *, demo: bool = False) -> Protocol:
    """The protocol called `name`, or its demo; ValueError naming the known ones."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return _demo(PROTOCOLS[name]) if demo else PROTOCOLS[name]
