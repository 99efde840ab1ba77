"""CLIP's starting weights: OpenAI's through open_clip, a state dict or file, or random.

All become a float32 state dict with OpenAI's names, and its geometry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import constants
from torch import Tensor

from tcclip.config import GEOMETRIES, Geometry, ModelConfig
from tcclip.weights.layouts import UNKNOWN, State, look_at
from tcclip.weights.parameter_names import TOKEN_EMBEDDING, from_openai, listed, mismatch

ClipWeights = str | Path | Mapping[str, Tensor] | None
#: The tensors that tell the sizes of a model, under our names, with their dimensions.
SIZED = {
    "vision.conv1.weight": (4,),
    "vision.positional_embedding": (2, 3),
    "vision.proj": (2,),
    "text.positional_embedding": (2,),
    TOKEN_EMBEDDING: (2,),
    "text.prompt_vectors": (2,),
}
NOT_ALWAYS = {TOKEN_EMBEDDING, "text.prompt_vectors"}
#: Width of the vision tower -> of its heads, where it is not 64: open_clip's ViT-H, g, bigG, e.
HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}


def clip_state(weights: ClipWeights, config: ModelConfig, seed: int) -> tuple[State, Geometry]:
    """The starting weights that `weights` names, and their geometry (see `build_model`).

    ValueError if they are not a CLIP ViT or contradict `config.geometry`.
    """
    if weights is None or weights == "random":
        sizes = config.sizes
        return random_clip_state(sizes, torch.Generator().manual_seed(seed)), sizes
    state, geometry = checked_clip(weights, config)
    return {
        name: x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, x in state.items()
    }, geometry


def checked_clip(
    weights: str | Path | Mapping[str, Tensor], config: ModelConfig
) -> tuple[Mapping[str, Tensor], Geometry]:
    """CLIP's tensors as given, and their geometry; a file's tensors are only mapped.

    ValueError if they are not one CLIP ViT or contradict `config.geometry`.
    """
    state, whose = _read(weights, config)
    geometry = _checked_geometry(state, config, whose)
    expected = clip_shapes(geometry)
    _check_names(set(expected), set(state), whose)
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{whose} hold {name} as {tuple(state[name].shape)}, but their other "
                f"tensors need {shape}; these are not the weights of one CLIP ViT"
            )
    return {name: state[name] for name in expected}, geometry


def clip_shapes(sizes: Geometry) -> dict[str, tuple[int, ...]]:
    """Every name of OpenAI's CLIP ViT state dict, with its shape."""
    D, d = sizes.vision_width, sizes.text_width
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (D,),
        "visual.positional_embedding": (sizes.patches + 1, D),
        "visual.proj": (D, sizes.embed_dim),
        "visual.conv1.weight": (D, 3, sizes.patch_size, sizes.patch_size),
        "text_projection": (d, sizes.embed_dim),
        "positional_embedding": (sizes.context_length, d),
        "token_embedding.weight": (sizes.vocab_size, d),
        "logit_scale": (),
    }
    norms = {"visual.ln_pre": D, "visual.ln_post": D, "ln_final": d}
    towers = (("visual.", D, sizes.vision_layers), ("", d, sizes.text_layers))
    for tower, width, layers in towers:
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}"
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * width, width),
                f"{block}.attn.in_proj_bias": (3 * width,),
                f"{block}.attn.out_proj.weight": (width, width),
                f"{block}.attn.out_proj.bias": (width,),
                f"{block}.mlp.c_fc.weight": (4 * width, width),
                f"{block}.mlp.c_fc.bias": (4 * width,),
                f"{block}.mlp.c_proj.weight": (width, 4 * width),
                f"{block}.mlp.c_proj.bias": (width,),
            }
            norms |= {f"{block}.ln_1": width, f"{block}.ln_2": width}
    for name, width in norms.items():
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)
    return shapes


def geometry_of(state: Mapping[str, Tensor], known: Geometry | None) -> Geometry:
    """The sizes of a CLIP or TC-CLIP state dict under our names.

    Shapes do not tell the number of heads: it is that of `known` for a tower of the same width,
    else one for every 64 columns, or as many as open_clip's large models have. Without a token
    embedding the vocabulary is CLIP's. ValueError for tensors that cannot be a CLIP ViT's.
    """
    missing = {name for name in SIZED if name not in state} - NOT_ALWAYS
    wrong = {n for n, dimensions in SIZED.items() if n in state and state[n].ndim not in dimensions}
    if missing or wrong:
        raise ValueError(
            f"missing, or with other dimensions than a CLIP ViT's: {listed(missing | wrong)}"
        )
    width, _, _, patch_size = state["vision.conv1.weight"].shape
    context_length, text_width = state["text.positional_embedding"].shape
    table = state["vision.positional_embedding"]
    vision_heads = max(width // HEAD_WIDTHS.get(width, 64), 1)
    text_heads = max(text_width // 64, 1)
    if known is not None and known.vision_width == width:
        vision_heads = known.vision_heads
    if known is not None and known.text_width == text_width:
        text_heads = known.text_heads
    vocabulary = {}
    if TOKEN_EMBEDDING in state:
        vocabulary["vocab_size"] = state[TOKEN_EMBEDDING].shape[0]
    return Geometry(
        image_size=patch_size * math.isqrt(table.shape[-2] - 1),
        patch_size=patch_size,
        vision_width=width,
        vision_layers=layer_count(state, "vision.blocks."),
        vision_heads=vision_heads,
        text_width=text_width,
        text_layers=layer_count(state, "text.blocks."),
        text_heads=text_heads,
        embed_dim=state["vision.proj"].shape[1],
        context_length=context_length,
        **vocabulary,
    )


def layer_count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are below `prefix`, e.g. "text.blocks."."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def random_clip_state(sizes: Geometry, generator: torch.Generator) -> State:
    """CLIP's own initialisation, drawn from `generator` alone, to train from scratch."""
    state = {}
    for name, shape in clip_shapes(sizes).items():
        layers = sizes.vision_layers if name.startswith("visual.") else sizes.text_layers
        state[name] = initial_values(name, shape, layers, generator)
    return state


def initial_values(
    name: str, shape: tuple[int, ...], layers: int, generator: torch.Generator
) -> Tensor:
    """CLIP's initial values of one tensor, by OpenAI name, of a tower of `layers` layers."""
    if name == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    if name.endswith("bias"):
        return torch.zeros(shape)
    if ".ln_" in f".{name}":
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) * _std(name, shape, layers)


def _std(name: str, shape: tuple[int, ...], layers: int) -> float:
    if name == "token_embedding.weight":
        return 0.02
    if name == "positional_embedding":
        return 0.01
    if name.endswith(("out_proj.weight", "c_proj.weight")):
        width = shape[0]  # into the residual stream, so less with more layers
        return float((2 * layers * width) ** -0.5)
    if name.endswith("c_fc.weight"):
        return float((2 * shape[1]) ** -0.5)
    if name.endswith(("in_proj_weight", "conv1.weight")):
        return float(math.prod(shape[1:]) ** -0.5)
    if name.endswith("embedding"):
        return float(shape[-1] ** -0.5)
    return float(shape[0] ** -0.5)


def _read(
    weights: str | Path | Mapping[str, Tensor], config: ModelConfig
) -> tuple[Mapping[str, Tensor], str]:
    """CLIP's tensors under OpenAI's names, and whose they are, for messages."""
    if isinstance(weights, Mapping):
        state, whose = weights, "the CLIP weights"
    elif weights == "openai":
        state, whose = _download_openai(config), "OpenAI's CLIP weights"
    else:
        state, whose = read_state_file(Path(weights)), f"the CLIP weights of {weights}"
    # Some CLIP files hold these beside the weights.
    constants = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    return {n: x for n, x in state.items() if n.rpartition(".")[2] not in constants}, whose


def _download_openai(config: ModelConfig) -> Mapping[str, Tensor]:
    """OpenAI's weights of `config.backbone`, in a file that open_clip downloads once.

    open_clip's own reader is `torch.load` if the file is no safetensors.
    """
    import open_clip

    known = [name for name, tag in open_clip.list_pretrained() if tag == "openai"]
    if config.backbone not in known:
        raise ValueError(
            f"OpenAI published no weights for backbone {config.backbone!r}; known: "
            f"{', '.join(n for n in known if n.startswith('ViT'))}; or use clip_weights='random'"
        )
    remedy = (
        "give a file (train.clip_weights=FILE, e.g. OpenAI's own in ~/.cache/clip), or test a "
        "checkpoint with --no-ensemble"
    )
    try:
        about = open_clip.get_pretrained_cfg(config.backbone, "openai")
        path = Path(open_clip.download_pretrained(about))
    except (OSError, RuntimeError) as error:
        # Where the network is switched off, another attempt does not help.
        kind = ValueError if constants.HF_HUB_OFFLINE else ConnectionError
        raise kind(
            f"OpenAI's weights of {config.backbone} are not in {constants.HF_HUB_CACHE} and could "
            f"not be downloaded ({error}); connect this machine; or {remedy}"
        ) from error
    try:
        return read_state_file(path)
    except ValueError as error:
        raise ValueError(
            f"OpenAI's weights of {config.backbone}, as downloaded: {error}; delete the file; or "
            f"{remedy}"
        ) from error


def read_state_file(path: Path) -> dict[str, Tensor]:
    """CLIP's tensors from a file, under OpenAI's names; nothing in it is run (`layouts`).

    FileNotFoundError, or ValueError for a file that is damaged or holds something else. Tensors
    with unknown names are returned as they are.
    """
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}; give an existing file or 'openai'")
    found = look_at(path)
    return found.state if found.layout is UNKNOWN else found.renamed("clip")


def _checked_geometry(state: Mapping[str, Tensor], config: ModelConfig, whose: str) -> Geometry:
    """The weights' sizes. ValueError if a tensor is missing or `config.geometry` differs."""
    needed = {"visual.conv1.weight", "visual.positional_embedding", "visual.proj",
              "positional_embedding"}  # fmt: skip
    _check_names(needed, set(state) & needed, whose)
    wanted = config.geometry
    ours = {from_openai(name): x for name, x in state.items()}
    geometry = geometry_of(ours, wanted or GEOMETRIES.get(config.backbone))
    if wanted is not None and geometry != wanted:
        wrong = [
            f"{field} {getattr(wanted, field)} (weights: {value})"
            for field, value in geometry
            if value != getattr(wanted, field)
        ]
        raise ValueError(
            f"the given geometry contradicts {whose}: {', '.join(wrong)}; "
            "leave it out to take the weights' own"
        )
    return geometry


def _check_names(expected: set[str], found: set[str], whose: str) -> None:
    problem = mismatch(expected, found)
    if problem:
        raise ValueError(f"{whose} are not the weights of an OpenAI-named CLIP ViT; {problem}")
