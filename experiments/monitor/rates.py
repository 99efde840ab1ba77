"""Speeds that costs are estimated with, each with where it was measured. Change them here alone."""

from __future__ import annotations

from typing import NamedTuple


class Card(NamedTuple):
    """FLOP a second (two a multiply-add) that one GPU sustains in bf16.

    `source`: the file in docs/ that has the measurement; None: assumed.
    """

    name: str
    training: float
    testing: float
    source: str | None

    @property
    def label(self) -> str:
        """How the rates came about, in words."""
        training, testing = self.training / 1e12, self.testing / 1e12
        rates = f"TFLOP/s in training {training:.0f}, in tests {testing:.0f}"
        if self.source is None:
            return f"estimated for an {self.name}, assumed and not measured: {rates}"
        return f"measured on an {self.name} ({self.source}): {rates}"


#: The GPU that costs are estimated for.
CARD = Card("H100", training=60e12, testing=60e12, source=None)

#: Clips of 16 frames that a loader process prepares in a second of one core, by data set: the
#: column "loader", one core (moving shapes: half of two); K600 as K400.
CLIPS = {
    "k400": 6.0, "k600": 6.0, "hmdb51": 17.8, "ucf101": 19.9, "ssv2": 15.0, "moving_shapes": 24.0,
}  # fmt: skip
#: For other data sets: as for K400, the slowest.
OTHER_CLIPS = 6.0
CLIPS_SOURCE = "docs/data_bench_2026-11-24.md"
