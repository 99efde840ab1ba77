"""The weights and videos behind the recorded numbers: nothing trained, nothing stored.

Every tensor is a function of its name and a seed alone (see README.md beside this file).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.config import GEOMETRIES, Geometry
from tcclip.weights.clip_weights import clip_shapes

LOGIT_SCALE = 4.6052


def normal(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal, float32, from a generator seeded with the first 32 bits of a digest."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    generator = torch.Generator().manual_seed(int(digest[:8], 16))
    return torch.randn(shape, generator=generator)


def clip_weights(seed: int, sizes: Geometry = GEOMETRIES["ViT-B-16"]) -> dict[str, Tensor]:
    """A state dict with OpenAI's names: matrices of unit gain, small biases and embeddings."""
    return {name: _weight(name, shape, seed) for name, shape in clip_shapes(sizes).items()}


def _weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name == "logit_scale":
        return torch.tensor(LOGIT_SCALE)
    x = normal(name, shape, seed)
    if ".ln_" in f".{name}" and name.endswith("weight"):
        return 1 + 0.1 * x
    if name.endswith("bias") or "embedding" in name:
        return 0.02 * x
    inputs = shape[0] if name.endswith(("proj", "projection")) else x[0].numel()
    return x * inputs**-0.5


def bias_table(layer: int, heads: int, seed: int) -> Tensor:
    """The local-global biases of one vision layer, drawn under their published name."""
    name = f"image_encoder.transformer.resblocks.{layer}.attn.local_global_bias_table"
    return 0.5 * normal(name, (heads, 1, 2), seed)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """As many threads for torch while it lasts: some results differ by them in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def video(seed: int, batch: int, frames: int, size: int = 224) -> Tensor:
    """Blurred noise with a little sharp noise on top, (batch, frames, 3, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((batch, frames, 3, size // 16, size // 16), generator=generator)
    with threads(2):  # one thread interpolates in another order than several, as recorded
        smooth = F.interpolate(
            coarse.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False
        )
    sharp = torch.randn((batch, frames, 3, size, size), generator=generator)
    return smooth.unflatten(0, (batch, frames)) + 0.1 * sharp
