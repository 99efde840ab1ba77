"""An exported model as graphs that run without Python: torch.export, TorchScript, ONNX.

Two of them, since video-conditional prompts make the text features depend on the video:
`video_encoder`: videos (B, T, 3, S, S), float32, normalised -> features (B, d) and, for each
prompted layer, context tokens (B, k, d); `class_scores`: these -> logits (B, n) of the classes that
the model has when it is exported. B is free.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from tcclip.model.tc_clip import Model, VideoFeatures

GraphFormat = Literal["torch_export", "torchscript", "onnx"]
ENDINGS: dict[str, str] = {"torch_export": ".pt2", "torchscript": ".pt", "onnx": ".onnx"}
GRAPHS = ("video_encoder", "class_scores")
#: What ONNX's exporter needs beside torch, and what runs its graphs.
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
#: Batch sizes: of the example, and of the videos that a graph is tried on.
EXAMPLE, TRIED = 2, 3
#: How far a graph's logits may be from the model's: other kernels round differently.
TOLERANCE = 1e-4


class VideoEncoder(nn.Module):
    """Videos to their features and context tokens."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = _with(model, text=None)

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        """Video (B, T, 3, S, S) -> features (B, d), and contexts (B, k, d)."""
        features = self.model.encode_video(video)
        return features.feature, *features.contexts


class ClassScores(nn.Module):
    """Features and context tokens to logits; the class list, encoded, is part of it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.classes = model.encode_classes()
        # Without what only made `classes`.
        first = min(model.text.prompt_layers, default=len(model.text.blocks))
        blocks = [nn.Identity()] * (first - 1) + list(model.text.blocks)[first - 1 :]
        text = _with(model.text, token_embedding=None, blocks=nn.ModuleList(blocks))
        self.model = _with(model, vision=None, text=text)

    def forward(self, feature: Tensor, *contexts: Tensor) -> Tensor:
        """As `VideoEncoder` gives them -> logits (B, n)."""
        logits: Tensor = self.model.score(VideoFeatures(feature, contexts), self.classes)
        return logits


def _with(module: Any, **parts: nn.Module | None) -> Any:
    """A module that has other parts in place of some, and shares the rest."""
    copied = copy.copy(module)
    copied._modules = {**module._modules, **parts}
    return copied


def check_format(format: str) -> None:
    """ValueError for a format that cannot be written here, with what to do about it."""
    if format not in get_args(GraphFormat):
        raise ValueError(f"unknown format {format!r}; known: {', '.join(get_args(GraphFormat))}")
    missing = [one for one in ONNX_PACKAGES if find_spec(one) is None]
    if format == "onnx" and missing:
        raise ValueError(
            f"format onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


@torch.no_grad()
def write_graphs(model: Model, folder: Path, format: GraphFormat) -> list[Path]:
    """Write both graphs of a model in evaluation mode, on the CPU, and try them on other videos.

    ValueError if an operator cannot be written in that format, or the graphs give other logits.
    """
    check_format(format)
    size, config = model.config.sizes.image_size, model.config
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(TRIED, config.num_frames, 3, size, size, generator=generator)
    paths = [folder / (name + ENDINGS[format]) for name in GRAPHS]
    encoder, scores = VideoEncoder(model), ClassScores(model)
    examples = videos[:EXAMPLE]
    with warnings.catch_warnings():
        # TorchScript is deprecated, and both kinds of tracing warn of what is tried below.
        warnings.simplefilter("ignore")
        write = _WRITERS[format]
        try:
            encode = write(encoder, (examples,), paths[0])
            score = write(scores, encoder(examples), paths[1])
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"this model cannot be written as {format}: {first}") from error
    wanted = scores(*encoder(videos))
    off = float((score(*encode(videos)) - wanted).abs().max())
    if not off <= TOLERANCE:
        raise ValueError(f"the model written as {format} gives other logits, by up to {off:.2g}")
    return paths


Writer = Callable[[nn.Module, Sequence[Tensor], Path], Callable[..., Any]]


def _torch_export(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> Callable[..., Any]:
    program = torch.export.export(module, tuple(inputs), dynamic_shapes=_free_batch(inputs))
    torch.export.save(program, path)
    loaded: Callable[..., Any] = torch.export.load(path).module()
    return loaded


def _torchscript(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> Callable[..., Any]:
    with _forward_passes_alone():
        torch.jit.trace(module, tuple(inputs), check_trace=False).save(str(path))
    loaded: Callable[..., Any] = torch.jit.load(str(path))
    return loaded


@contextmanager
def _forward_passes_alone() -> Iterator[None]:
    """Autograd functions as what they compute: TorchScript can write no call of Python's."""
    functions: list[Any] = [
        one for one in torch.autograd.Function.__subclasses__()
        if one.__module__.startswith("tcclip.model")
    ]  # fmt: skip
    for one in functions:
        one.apply = partial(one.forward, FunctionCtx())
    try:
        yield
    finally:
        for one in functions:
            del one.apply


def _onnx(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> Callable[..., Any]:
    encoder = isinstance(module, VideoEncoder)
    contexts = [f"context_{n}" for n in range(1, len(inputs))]
    torch.onnx.export(
        module, tuple(inputs), path, dynamo=True, verbose=False, external_data=False,
        input_names=["video"] if encoder else ["feature", *contexts],
        dynamic_shapes=_free_batch(inputs),
        custom_translation_table={
            torch.ops.aten.sort.stable: _stable_sort, torch.ops.aten.max.dim: _max,
        },
    )  # fmt: skip
    return onnx_session(path)


def _stable_sort(values: Any, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """What torch's exporter does not know: ONNX's TopK puts the lower of equal ones first."""
    from onnxscript import opset18 as op

    size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def _max(values: Any, dim: int, keepdim: bool = False) -> Any:
    """torch's exporter makes no difference for truth values, of which ONNX knows no maximum."""
    from onnxscript import ir
    from onnxscript import opset18 as op

    truth = values.dtype == ir.DataType.BOOL
    numbers = op.Cast(values, to=ir.DataType.INT32) if truth else values
    place = op.ArgMax(numbers, axis=dim, keepdims=int(keepdim))
    most = op.ReduceMax(numbers, op.Constant(value_ints=[dim]), keepdims=int(keepdim))
    return (op.Cast(most, to=ir.DataType.BOOL) if truth else most), place


def onnx_session(path: Path) -> Callable[..., Any]:
    """What runs a graph with onnxruntime, on tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> Any:
        given = dict(zip(names, (one.numpy() for one in inputs), strict=True))
        found = tuple(map(torch.from_numpy, session.run(None, given)))
        return found if path.stem == GRAPHS[0] else found[0]

    return run


_WRITERS: dict[GraphFormat, Writer] = {
    "torch_export": _torch_export, "torchscript": _torchscript, "onnx": _onnx,
}  # fmt: skip


def _free_batch(inputs: Sequence[Tensor]) -> tuple[Any, ...]:
    """For each argument which of its dimensions are free: the first."""
    first, *others = [{0: torch.export.Dim("batch")} for _ in inputs]
    return (first, tuple(others)) if others else (first,)
