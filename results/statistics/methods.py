"""What a row of the report stands for, and how it is called there."""

from __future__ import annotations

from dataclasses import dataclass

from results.records import RunKey

#: In the order of the paper's tables.
MODEL_TITLES = {"clip": "CLIP", "vifi_clip": "ViFi-CLIP", "tc_clip": "TC-CLIP"}
VARIANT_TITLES = {"base": "", "llm": "LLM", "pretrained": "P"}


@dataclass(frozen=True, order=True)
class Method:
    """A model under a variant and settings."""

    model: str
    variant: str
    overrides: str = ""
    origin: str = "trained"
    protocol_version: int = 1

    @classmethod
    def of(cls, key: RunKey) -> Method:
        """The method of a run."""
        overrides = ", ".join(key.overrides)
        return cls(key.model, key.variant, overrides, key.origin, key.protocol_version)

    @property
    def title(self) -> str:
        """The row's name, e.g. `TC-CLIP (LLM) [train.lr=1e-5]`."""
        title = MODEL_TITLES.get(self.model, self.model)
        variant = VARIANT_TITLES.get(self.variant, self.variant)
        if variant:
            title += f" ({variant})"
        if self.overrides:
            title += f" [{self.overrides}]"
        if self.origin != "trained":
            title += f" [from {self.origin}]"
        return title
