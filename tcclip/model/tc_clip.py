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
from tcclip.model.layers import full_precision, no_autocast
from tcclip.model.text import ClassFeatures, TextTower
from tcclip.model.tokens import PROMPT_WORDS, Prompts, tokenise, word_ids
from tcclip.model.vision import VisionOutput, VisionTower

CLASS_BUFFERS = ("prefix", "suffix", "eot")


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
    """TC-CLIP, ViFi-CLIP or CLIP, by `config`; make it with `create_model`."""

    class_prefix: Tensor
    class_suffix: Tensor
    class_eot: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Allocate the parameters; `build_model` fills them and sets the class names."""
        super().__init__()
        self.config = config
        layers = config.prompt_layers if config.prompts_video else ()
        words = config.prompt_length if config.prompts_video else 0
        self.vision = VisionTower(config, context_layers=layers)
        self.text = TextTower(config, layers, words)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self._class_names: tuple[str, ...] = ()
        for name in CLASS_BUFFERS:
            # Buffers move with the model to its device; rebuilt from the names, so never saved.
            self.register_buffer(f"class_{name}", None, persistent=False)

    # ---- The class list ----

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names that `forward` scores."""
        return self._class_names

    def set_class_names(self, names: Sequence[str]) -> None:
        """Change the classes. ValueError for an empty list or a name that is too long."""
        prompts = self._tokenise(names)
        self._class_names = tuple(names)
        for name in CLASS_BUFFERS:
            setattr(self, f"class_{name}", getattr(prompts, name))

    def _tokenise(self, names: Sequence[str]) -> Prompts:
        config = self.config
        template = config.name != "clip"
        words = len(word_ids(PROMPT_WORDS)) if template else 0
        if config.prompts_video:
            words = config.prompt_length
        prompts = tokenise(
            names,
            words=words,
            template=template,
            length=config.text_length,
            underscores=config.name != "tc_clip",
        )
        return prompts.to(self.logit_scale.device)

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
        self._check_video(video)
        tower = self.vision(video, selections=intermediates)
        feature = F.normalize(tower.frames.mean(1), dim=-1)
        details = _intermediates(tower) if intermediates else None
        return VideoFeatures(feature, tower.contexts, details)

    def encode_classes(self, names: Sequence[str] | None = None) -> ClassFeatures:
        """All text work that needs no video, for `names` or the model's own classes.

        Differentiable where gradients are enabled. ValueError as `set_class_names`.
        """
        if names is None:
            prompts = Prompts(self.class_prefix, self.class_suffix, self.class_eot)
        else:
            prompts = self._tokenise(names)
        return self.text.encode(prompts)

    def score(self, videos: VideoFeatures, classes: ClassFeatures) -> Tensor:
        """Logits (B, n): exp(logit_scale) times the cosine of video and class features."""
        texts = self.text.condition(classes, videos.contexts)
        with no_autocast(texts):
            similarity = (texts @ videos.feature.unsqueeze(-1)).squeeze(-1)
            return full_precision(self.logit_scale).exp() * similarity

    def _check_video(self, video: Tensor) -> None:
        side = self.config.sizes.image_size
        if video.ndim != 5 or video.shape[2:] != (3, side, side):
            raise ValueError(
                f"the video has shape {tuple(video.shape)}; this model takes "
                f"(batch, frames, 3, {side}, {side})"
            )
        self.config.check_frames(video.shape[1])

    # ---- Training ----

    def prompt_parameter_names(self) -> frozenset[str]:
        """Parameters of the 10 x learning rate group: prompt vectors and VP layers (SPEC 4)."""
        prompting = ("text.prompt_vectors", "text.prompters.")
        return frozenset(n for n, _ in self.named_parameters() if n.startswith(prompting))

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute the layers in the backward pass instead of storing their activations."""
        self.vision.activation_checkpointing = enabled
        self.text.activation_checkpointing = enabled


def _intermediates(tower: VisionOutput) -> Intermediates:
    return Intermediates(
        frame_features=tower.frames,
        context_tokens=torch.stack(tower.contexts, dim=1) if tower.contexts else None,
        seeds=tuple(s.seeds for s in tower.selections),
        assignments=tuple(s.assignment for s in tower.selections),
        cls_attention=tuple(s.cls_attention for s in tower.selections),
    )
