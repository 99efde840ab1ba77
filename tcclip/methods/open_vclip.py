"""Open-VCLIP: CLIP whose frames see their neighbours, trained not to forget what CLIP knows.

Weng, Yang, Li, Wu, Jiang, "Open-VCLIP: Transforming CLIP to an Open-vocabulary Video Model via
Interpolated Weight Optimization", ICML 2023, arXiv 2302.00624. Written from its description.

- Attention: a token of frame t, CLS or patch, attends to its frame's CLS token and to the patches
  of frames t - 1, t and t + 1; of the first and the last frame, to those there are. No parameter is
  new, so CLIP's weights load as they are. (The temporal window of TC-CLIP's ablations.)
- Interpolated Weight Regularization: the loss L is also taken at weights between CLIP's, A, and
  the trained ones, B: L(B) + C / (1 - a) L(a A + (1 - a) B), a drawn anew from U(0, 0.6) in every
  step. The chain rule brings a factor 1 - a, so the gradient is that at B and C times that in
  between. A step costs twice as much.
- Stochastic weight averaging: the weights after each epoch, warm-up left out, are averaged. (The
  authors average after the training; here the average is also what an epoch is selected by.)
- Interpolation at test time: the protocol's weight ensembling, of CLIP and that average.

C = 0.5, 0.6 and the averaged epochs are what the authors' published command says. Not theirs, but
the protocols' own, so that all rows of a table are trained alike: epochs, learning rates, batch,
frames (theirs 8), views, Mixup and colour jitter (theirs none), the text "a photo of a ...", and
the share of CLIP when ensembling (theirs chosen by data set, 0.5 in their example).
"""

from __future__ import annotations

import random

from pydantic import Field

from tcclip.config import ModelConfig
from tcclip.methods.method import Method


class OpenVclipSettings(ModelConfig):
    """Open-VCLIP's own settings, beside the model's."""

    name: str = "open_vclip"
    #: C above: how much the gradient at the interpolated weights counts; 0: no regularization.
    interpolation_weight: float = Field(default=0.5, ge=0)
    #: The largest share of CLIP's weights that is drawn.
    interpolation_range: float = Field(default=0.6, ge=0, lt=1)
    #: Whether the weights of the epochs are averaged.
    average_epochs: bool = True


def gradients_at(
    settings: OpenVclipSettings, seed: int, step: int
) -> tuple[tuple[float, float], ...]:
    """At the trained weights, and C times between them and CLIP's."""
    own = (0.0, 1.0)
    if settings.interpolation_weight == 0:
        return (own,)
    drawn = random.Random(f"open_vclip {seed} {step}").random()
    return own, (settings.interpolation_range * drawn, settings.interpolation_weight)


METHOD = Method(
    name="open_vclip",
    title="Open-VCLIP",
    paper="https://arxiv.org/abs/2302.00624",
    settings=OpenVclipSettings,
    implied={"frame_attention": "window", "video_prompting": False},
    gradients_at=gradients_at,
    averages=lambda settings: settings.average_epochs,
    # OpenAI CLIP's names, nested in these.
    published_keys=(
        r"\bmodel_state\.(module\.)?model\.visual\.",
        r"\bmodel_state\.(module\.)?model\.transformer\.",
    ),
)
