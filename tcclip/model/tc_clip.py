"""The model: a video and a class list to logits (SPEC 2).

Shape legend: B videos, T frames, n classes, k context tokens, d joint embedding, H heads,
P patches a frame, S seed patches a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcclip.config import ModelConfig
from tcclip.model.compiled import Compiler
from tcclip.model.layers import full_precision, no_autocast
from tcclip.model.text import ClassFeatures, TextTower
from tcclip.model.tokens import USUAL, Prompts, tokenise
from tcclip.model.vision import VisionTower


@dataclass(frozen=True)
class Intermediates:
    """Intermediate results. The tuples have one entry for each vision layer and are empty unless
    frames attend to context tokens.

    frame_features (B, T, d): projected CLS tokens before the temporal mean, not normalised.
    context_tokens (B, prompted layers, k, d): projected, as the prompts use them.
    seeds (B, T, S): patch indices, best first. assignments (B, T*P): the context token each patch
    went into, -1 for none. cls_attention (B, T, H, P): the scores that chose the seeds.
    """

    frame_features: Tensor
    context_tokens: Tensor | None
    seeds: tuple[Tensor, ...]
    assignments: tuple[Tensor, ...]
    cls_attention: tuple[Tensor, ...]


@dataclass(frozen=True)
class VideoFeatures:
    """Encoded videos, to be scored against any class list.

    feature (B, d), normalised; contexts, one (B, k, d) for each prompted layer.
    """

    feature: Tensor
    contexts: tuple[Tensor, ...]
    intermediates: Intermediates | None = None

    def __getitem__(self, videos: Tensor | slice) -> VideoFeatures:
        """Some of the videos, without their intermediates."""
        return VideoFeatures(self.feature[videos], tuple(c[videos] for c in self.contexts))


@dataclass(frozen=True)
class Output:
    """logits (B, n), and the intermediates if they were requested."""

    logits: Tensor
    intermediates: Intermediates | None = None


class Model(nn.Module):
    """What a method computes, by `config`; make it with `create_model`."""

    #: What `forward` scores.
    class_names: tuple[str, ...]
    class_prefix: Tensor
    class_suffix: Tensor
    class_eot: Tensor
    class_order: Tensor
    class_rank: Tensor
    class_buckets: tuple[tuple[int, int], ...]

    def __init__(self, config: ModelConfig) -> None:
        """Allocate the parameters; `build_model` fills them and calls `set_class_names`.

        `config`: with what its name implies (`tcclip.methods.resolved`). `wording`, that of its
        method, is set before the class names.
        """
        super().__init__()
        self.config, self.wording = config, USUAL
        self.vision = VisionTower(config)
        self.text = TextTower(config)
        self.logit_scale = nn.Parameter(torch.empty(()))

    # ---- The class list ----

    def set_class_names(self, names: Sequence[str]) -> None:
        """Change the classes. ValueError for an empty list or a name that is too long."""
        prompts = tokenise(names, self.config, self.logit_scale.device, self.wording)
        self.class_names = tuple(names)
        self.class_buckets = prompts.buckets
        for name, tokens in vars(prompts).items():
            if name != "buckets":
                # Buffers move with the model to its device; rebuilt from the names, never saved.
                self.register_buffer(f"class_{name}", tokens, persistent=False)

    # ---- Encoding and scoring ----

    def forward(self, video: Tensor, *, intermediates: bool = False) -> Output:
        """Video (B, T, 3, height, width), float, normalised -> logits (B, n).

        Intermediates are computed and returned only on request. ValueError for a video that
        does not fit the model.
        """
        features = self.encode_video(video, intermediates=intermediates)
        logits = self.score(features, self.encode_classes())
        return Output(logits, features.intermediates)

    def encode_video(self, video: Tensor, *, intermediates: bool = False) -> VideoFeatures:
        """Video (B, T, 3, height, width), float, normalised -> its features."""
        side = self.config.sizes.image_size
        if video.ndim != 5 or video.shape[2:] != (3, side, side):
            raise ValueError(
                f"the video has shape {tuple(video.shape)}; this model takes "
                f"(batch, frames, 3, {side}, {side})"
            )
        self.config.check_frames(video.shape[1])
        frames, contexts, selections = self.vision(video, selections=intermediates)
        details = None
        if intermediates:
            details = Intermediates(
                frame_features=frames,
                context_tokens=torch.stack(contexts, dim=1) if contexts else None,
                seeds=tuple(one.seeds for one in selections),
                assignments=tuple(one.assignment() for one in selections),
                cls_attention=tuple(one.cls_attention for one in selections),
            )
        return VideoFeatures(F.normalize(frames.mean(1), dim=-1), contexts, details)

    def encode_classes(self, names: Sequence[str] | None = None) -> ClassFeatures:
        """All text work that needs no video, for `names` or the model's own classes.

        Differentiable where gradients are enabled. ValueError as `set_class_names`.
        """
        if names is None:
            prompts = Prompts(
                prefix=self.class_prefix,
                suffix=self.class_suffix,
                eot=self.class_eot,
                order=self.class_order,
                rank=self.class_rank,
                buckets=self.class_buckets,
            )
        else:
            prompts = tokenise(names, self.config, self.logit_scale.device, self.wording)
        return self.text.encode(prompts)

    def score(self, videos: VideoFeatures, classes: ClassFeatures) -> Tensor:
        """Logits (B, n): exp(logit_scale) times the cosine of video and class features."""
        texts = self.text.condition(classes, videos.contexts)
        with no_autocast(texts):
            similarity = (texts @ videos.feature.unsqueeze(-1)).squeeze(-1)
            return full_precision(self.logit_scale).exp() * similarity

    # ---- Training ----

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute the layers in the backward pass instead of storing their activations."""
        self.vision.activation_checkpointing = enabled
        self.text.activation_checkpointing = enabled

    def set_compiled(self, enabled: bool) -> None:
        """Whether the layers of the vision tower are compiled, each for every shape it is run on.

        The shapes of videos should be few then. If compiling fails, they run eagerly.
        """
        if not enabled:
            self.vision.compiler = None
        elif self.vision.compiler is None:
            self.vision.compiler = Compiler()
