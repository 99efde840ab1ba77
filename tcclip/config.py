"""Settings of model, training, augmentation and evaluation, as frozen pydantic models.

No torch here: planning, `--help`, `status` and `report` read these without loading it.
A default is in exactly one place: here when it belongs to the method (SPEC 2 and 3),
in `protocols/` when it belongs to a protocol (SPEC 4 and 5).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

FrameAttention = Literal["none", "cls", "window", "joint", "context"]
Aggregation = Literal["bipartite", "none", "random", "kmeans", "dpc_knn"]
Activation = Literal["quick_gelu", "gelu"]
Precision = Literal["fp32", "bf16", "fp16"]
Reader = Literal["auto", "pyav", "published", "decord"]

#: What the micro-batch "auto" is where nothing was measured, on a CPU: clips of the full size.
UNMEASURED_MICRO_BATCH = 4
#: The towers of the largest CLIP have 2560 columns and 48 layers.
LARGEST_WIDTH, MOST_LAYERS = 2**14, 256


class FrozenModel(BaseModel):
    """Base of all settings: frozen; an unknown name, NaN or an infinite number is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Geometry(FrozenModel):
    """Sizes of the two CLIP towers (SPEC 1). Pixels for sizes, counts for the rest.

    Bounded, as a model's other sizes are: a file from anywhere may ask for them.
    """

    image_size: int = Field(gt=0, le=4096)
    patch_size: int = Field(gt=0)
    vision_width: int = Field(gt=0, le=LARGEST_WIDTH)
    vision_layers: int = Field(gt=0, le=MOST_LAYERS)
    vision_heads: int = Field(gt=0)
    text_width: int = Field(gt=0, le=LARGEST_WIDTH)
    text_layers: int = Field(gt=0, le=MOST_LAYERS)
    text_heads: int = Field(gt=0)
    embed_dim: int = Field(gt=0, le=LARGEST_WIDTH)
    context_length: int = Field(default=77, gt=2, le=4096)
    vocab_size: int = Field(default=49408, gt=0, le=2**20)

    @field_validator("patch_size")
    @classmethod
    def _in_the_image(cls, size: int, info: ValidationInfo) -> int:
        if size > info.data.get("image_size", size):
            raise ValueError(f"no patch of {size} pixels fits into an image")
        return size

    @property
    def patches(self) -> int:
        """Patches a frame, P."""
        return (self.image_size // self.patch_size) ** 2


_VIT_B_16 = Geometry(
    image_size=224, patch_size=16, vision_width=768, vision_layers=12, vision_heads=12,
    text_width=512, text_layers=12, text_heads=8, embed_dim=512,
)  # fmt: skip

#: Known backbones. The CLIP ones carry open_clip's names; `tiny` learns from scratch on a CPU.
GEOMETRIES: dict[str, Geometry] = {
    "ViT-B-16": _VIT_B_16,
    "ViT-B-32": _VIT_B_16.model_copy(update={"patch_size": 32}),
    "ViT-L-14": Geometry(
        image_size=224, patch_size=14, vision_width=1024, vision_layers=24, vision_heads=16,
        text_width=768, text_layers=12, text_heads=12, embed_dim=768,
    ),
    "tiny": Geometry(
        image_size=32, patch_size=8, vision_width=64, vision_layers=3, vision_heads=4,
        text_width=64, text_layers=2, text_heads=4, embed_dim=64,
    ),
}  # fmt: skip


class Wording(FrozenModel):
    """The text of a class: `prompt`, whose beginning up to {} is the same for all, and whether
    underscores of names stay."""

    prompt: str = "a photo of a {}."
    #: Quirk: the published ViFi-CLIP and CLIP keep them, which are separate tokens for CLIP.
    underscores: bool = False


class ModelConfig(FrozenModel):
    """What the model computes (SPEC 2), the paper's ablations included.

    `name`: of a method (`tcclip.methods`), which may have more settings in a class of its own.
    `geometry` overrides the backbone's sizes. `prompt_layers` are 1-based text layers;
    layer i sees the context tokens that leave vision layer i (SPEC 2.2).
    """

    name: str = "tc_clip"
    backbone: str = "ViT-B-16"
    geometry: Geometry | None = None
    num_frames: int = Field(default=16, gt=0, le=4096)
    text_length: int = Field(default=30, gt=2)
    frame_attention: FrameAttention = "context"
    aggregation: Aggregation = "bipartite"
    context_tokens: int = Field(default=96, gt=0)
    seed_ratio: float = Field(default=0.3, gt=0, le=1)
    merge_step: int = Field(default=100, gt=0)
    positional_embedding: Literal["space", "joint"] = "space"
    local_global_bias: bool = True
    video_prompting: bool = True
    prompt_layers: tuple[int, ...] = (12,)
    prompt_length: int = Field(default=4, gt=0, le=4096)
    prompt_init: Literal["text_layer", "random"] = "text_layer"
    prompt_stop_grad: bool = True
    #: OpenAI's CLIP has QuickGELU, most of open_clip's and LAION's GELU: a file does not say which.
    #: Left out where it is the default, so that ids and files are as before it was there.
    activation: Activation = Field(default="quick_gelu", exclude_if=lambda x: x == "quick_gelu")

    @field_validator("prompt_layers")
    @classmethod
    def _in_order(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        """Lowest first: one way to write the same model."""
        return tuple(sorted(layers))

    @property
    def sizes(self) -> Geometry:
        """The tower sizes: `geometry` if given, else the backbone's."""
        if self.geometry is not None:
            return self.geometry
        if self.backbone not in GEOMETRIES:
            raise ValueError(
                f"unknown backbone {self.backbone!r}; known: {', '.join(GEOMETRIES)}, "
                "or give the sizes as `geometry`"
            )
        return GEOMETRIES[self.backbone]

    @property
    def prompted_layers(self) -> tuple[int, ...]:
        """The text layers that depend on the video (VP), of `resolved` settings."""
        return self.prompt_layers if self.video_prompting else ()

    @property
    def uses_context(self) -> bool:
        """Whether the vision tower makes context tokens (TC)."""
        return self.frame_attention == "context"

    @property
    def seeds_per_frame(self) -> int:
        """int(P * alpha), SPEC 2.1 step 3."""
        return int(self.sizes.patches * self.seed_ratio)

    def check(self) -> None:
        """ValueError for what cannot be built, of settings with what the name implies."""
        positions = self.sizes.context_length
        if self.text_length > positions:
            raise ValueError(
                f"text_length {self.text_length} is more than the {positions} positions "
                "of the text tower; lower it"
            )
        self.check_frames(self.num_frames)
        sizes, layers = self.sizes, self.prompt_layers
        allowed = min(sizes.text_layers, sizes.vision_layers)
        fits = all(1 <= layer <= allowed for layer in layers)
        if self.video_prompting and not (layers and fits and len(set(layers)) == len(layers)):
            raise ValueError(
                f"prompt_layers {layers} must be different layers from 1 to {allowed} "
                f"(the text tower has {sizes.text_layers}, the vision tower "
                f"{sizes.vision_layers}); to prompt none, set video_prompting=False"
            )

    def check_frames(self, frames: int) -> None:
        """ValueError if the model cannot take videos of `frames` frames."""
        if self.positional_embedding == "joint" and frames != self.num_frames:
            raise ValueError(
                f"the video has {frames} frames, but joint positional embeddings are made for "
                f"num_frames={self.num_frames}; sample as many, or use positional_embedding='space'"
            )
        if not self.uses_context:
            return
        patches, seeds = self.sizes.patches, self.seeds_per_frame
        if seeds < 1:
            raise ValueError(
                f"seed_ratio {self.seed_ratio} leaves no seed of {patches} patches a frame; "
                f"raise it to at least {1 / patches:.3g}"
            )
        if self.aggregation != "none" and seeds * frames < self.context_tokens:
            raise ValueError(
                f"{frames} frames of {seeds} seeds make {seeds * frames} seed tokens, fewer than "
                f"context_tokens={self.context_tokens}; lower context_tokens, or raise seed_ratio "
                "or num_frames"
            )


class AugmentConfig(FrozenModel):
    """Pixels of a training clip and of a test view (SPEC 3). Sizes in pixels, probabilities 0-1."""

    resize: int = Field(default=256, gt=0, le=4096)
    crop: int = Field(default=224, gt=0, le=4096)
    crop_scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: float = Field(default=0.5, ge=0, le=1)
    jitter: float = Field(default=0.8, ge=0, le=1)
    brightness: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.4, ge=0)
    saturation: float = Field(default=0.2, ge=0)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    #: Quirk: the published code draws the colour jitter anew for every frame ("clip": once a clip).
    jitter_per: Literal["frame", "clip"] = "frame"
    grey: float = Field(default=0.2, ge=0, le=1)
    #: Quirk: ImageNet's mean and std, not CLIP's.
    normalisation: Literal["imagenet", "clip"] = "imagenet"
    #: "published": with decord's wrong frames (SPEC 3). The others give ffmpeg's: "pyav" decodes
    #: every frame, "auto" may skip some; "decord", of earlier versions, is "auto".
    reader: Reader = "auto"
    #: Quirk: several temporal views of a test video are drawn by the train rule ("uniform": even).
    view_sampling: Literal["published", "uniform"] = "published"


class MixConfig(FrozenModel):
    """CutMix and Mixup with smoothed targets (SPEC 3), drawn group by group."""

    probability: float = Field(default=1.0, ge=0, le=1)
    cutmix_share: float = Field(default=0.5, ge=0, le=1)
    cutmix_alpha: float = Field(default=1.0, gt=0)
    mixup_alpha: float = Field(default=0.8, gt=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    group: int = Field(default=4, gt=0)


class TrainConfig(FrozenModel):
    """The optimisation of SPEC 4. What differs between protocols has no default here."""

    epochs: int = Field(ge=0, le=10**6)
    warmup_epochs: float = Field(ge=0)
    lr: float = Field(gt=0)
    lr_min: float = Field(ge=0)
    global_batch: int = Field(gt=0, le=2**20)
    #: Videos in a loader iteration of the published set-up (4 GPUs x 4): the schedule's time unit.
    schedule_batch: int = Field(default=16, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=1e-3, ge=0)
    #: Prompt vectors and VP layers of tc_clip train at this multiple of the learning rate.
    prompt_lr_scale: float = Field(default=10.0, gt=0)
    precision: Precision = "bf16"
    validate_every: int = Field(default=1, gt=0)
    #: Starting weights: "openai" (through open_clip), "random" (drawn from the seed), or a file's
    #: path, which the settings of a run replace by "sha256:" and the digest of its content.
    clip_weights: str = "openai"
    mix: MixConfig = MixConfig()


class Views(FrozenModel):
    """Views of a test video: temporal clips x spatial crops (SPEC 3); see `view_sampling`."""

    clips: int = Field(default=1, gt=0, le=1000)
    crops: Literal[1, 3] = 1
    sampling: Literal["published", "uniform"] = "published"

    @property
    def label(self) -> str:
        """Short name used in tables and paths, e.g. `2x1`."""
        return f"{self.clips}x{self.crops}" + ("u" if self.sampling == "uniform" else "")


#: Compiling takes about 90 s and saves 60 to 110 ms a pass of 32 videos
#: (docs/gpu_bench_2026-11-27.md): paid for after half of this.
COMPILE_FROM = 2000


#: More loader processes than that keep no GPU busier.
MOST_LOADERS = 32
#: Batches that a loader process makes ahead. One more piece of memory is being read meanwhile.
LOADER_PREFETCH = 2
LOADER_PIECES = LOADER_PREFETCH + 1
#: What a loader process takes beside these, with the one that decodes for it: 131 to 186 MiB of
#: their own on real clips of 320 x 240 to 427 x 240 (docs/verified.md).
LOADER_BYTES = 200 * 2**20


class Execution(FrozenModel):
    """Where and how fast a run computes, `micro_batch` videos at once on each of `workers` ranks.

    Not part of the run id: nothing here changes the numbers beyond rounding.
    """

    workers: int = Field(default=1, gt=0)
    #: "auto": as many as fit on the GPU (`tcclip/memory.py`), 4 on a CPU.
    micro_batch: PositiveInt | Literal["auto"] = "auto"
    eval_batch: int = Field(default=8, gt=0)
    #: Processes that load videos. "auto": as many as a worker has CPUs beside its own, at least 1.
    loader_workers: NonNegativeInt | Literal["auto"] = "auto"
    #: Share of a GPU that a worker takes: with 0.25, four small runs compute on one side by side.
    gpus_per_worker: float = Field(default=1.0, ge=0.01, le=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpu_threads: int = Field(default=1, gt=0, le=4096)
    activation_checkpointing: bool = False
    #: "auto": training and evaluation on CUDA, each from `COMPILE_FROM` forward passes on, unless
    #: `deterministic`: compiled code chooses its kernels by timing them.
    compile: bool | Literal["auto"] = "auto"
    #: The same numbers, bit for bit, each time. "auto": on a CPU, where it costs nothing.
    deterministic: bool | Literal["auto"] = "auto"
    decode_timeout: float = Field(default=60.0, gt=0)
    max_unreadable: float = Field(default=0.005, ge=0, le=1)
    #: Gigabytes of a machine's disk for decoded frames (`tcclip/data/cache`); 0: none are kept;
    #: "auto": half of what is free and what they take already.
    cache_size: NonNegativeFloat | Literal["auto"] = "auto"
    #: A training state is saved after the step at which so many have passed; 0: after every step.
    checkpoint_minutes: float = Field(default=20.0, ge=0)

    @field_validator(
        "micro_batch", "loader_workers", "compile", "deterministic", "cache_size", mode="wrap"
    )
    @classmethod
    def _say_what_is_allowed(
        cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        try:
            return validate(value)
        except ValidationError:  # one for each alternative
            allowed = {
                "micro_batch": "auto or a whole number of at least 1",
                "loader_workers": "auto or a whole number of at least 0",
                "cache_size": "auto or a number of gigabytes, 0 for none",
            }.get(str(info.field_name), "auto, true or false")
            raise PydanticCustomError("allowed", f"give {allowed}") from None

    def chunk_size(self, train: TrainConfig) -> int:
        """Videos a loader loads at once: whole mixing groups, at least a micro-batch.

        A smaller micro-batch is split off after mixing.
        ValueError if the protocol's global batch cannot be made.
        """
        chunk = self._chunk(self.micro_batch_size(train), train)
        if chunk is None:
            auto = self.micro_batch == "auto"
            size = "any size" if auto else self.micro_batch
            advice = (
                "--workers-per-run so that it divides the number of groups"
                if auto
                else "--micro-batch and --workers-per-run so that their product divides it"
            )
            if train.global_batch % train.mix.group:
                advice = f"a train.global_batch that is a multiple of {train.mix.group}"
            raise ValueError(
                f"a global batch of {train.global_batch} cannot be made from micro-batches of "
                f"{size} on {self.workers} workers in mixing groups of {train.mix.group}; "
                f"choose {advice}"
            )
        return chunk

    def compiles(self, device: str, passes: int) -> bool:
        """Whether to compile what a worker does `passes` times on a device of that type."""
        if self.compile == "auto":
            return device == "cuda" and passes >= COMPILE_FROM and self.deterministic is not True
        return self.compile

    def micro_batch_size(self, train: TrainConfig) -> int:
        """`micro_batch` as a number; of "auto" what is used where nothing was measured."""
        if isinstance(self.micro_batch, int):
            return self.micro_batch
        return max(self.micro_batches(train, UNMEASURED_MICRO_BATCH), default=1)

    def micro_batches(self, train: TrainConfig, largest: int) -> list[int]:
        """The micro-batches up to `largest` that make the global batch, smallest first."""
        return [size for size in range(1, largest + 1) if self._chunk(size, train) is not None]

    def _chunk(self, size: int, train: TrainConfig) -> int | None:
        """The chunk of micro-batches of `size`; None if they cannot make the global batch."""
        group = train.mix.group
        chunk = max(size, group)
        divides = chunk % size == 0 and chunk % group == 0
        return chunk if divides and train.global_batch % (chunk * self.workers) == 0 else None
