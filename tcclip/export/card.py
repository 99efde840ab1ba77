"""The model card: what the model is, its numbers, how to use it, and the Hub's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from huggingface_hub import EvalResult, ModelCardData

from tcclip import methods
from tcclip.config import AugmentConfig
from tcclip.data.transforms import NORMALISATIONS
from tcclip.export.graphs import GRAPHS
from tcclip.methods import Method
from tcclip.model import Model

#: OpenAI's weights on the Hub, by backbone.
BASE_MODELS = {
    "ViT-B-16": "openai/clip-vit-base-patch16",
    "ViT-B-32": "openai/clip-vit-base-patch32",
    "ViT-L-14": "openai/clip-vit-large-patch14",
}
#: Classes that are listed.
MOST_CLASSES = 1000
_TEMPLATE = Path(__file__).with_name("card.md")

_LIMITS = """\
- It names one of the classes it is given, whatever a video shows; a low probability is no proof.
- Other classes than those it was trained on are recognised by their names alone, usually less well.
- It sees {frames} frames of a video, however long that is; cut long videos first.
- It has the biases of the videos and of the CLIP it learnt from: of place, people and camera.
- It was made and tested for research on recognition, not for decisions about people."""


@dataclass(frozen=True)
class Number:
    """A result in percent: the mean over `n` `units` and their `std` (divisor n - `ddof`), which is
    None for one.

    `dataset` as in the lists, `title` as one writes it; `splits` as they are called; `videos` in
    all of them; `views`: temporal clips x crops; `source`: where it is recorded.
    """

    dataset: str
    title: str
    splits: tuple[str, ...]
    metric: str
    value: float
    std: float | None
    ddof: int
    n: int
    units: str
    videos: int
    views: str
    source: str

    @property
    def statistic(self) -> str:
        """In words."""
        if self.std is None:
            return self.units
        return f"mean ± {'sample' if self.ddof else 'population'} std of {self.n} {self.units}"


@dataclass(frozen=True)
class About:
    """What is known of a model beside itself.

    `facts`: what is said of its training, by heading. `start`: the CLIP weights it started from
    ("openai", "random", "sha256:..."), None if not known. `published`: from a published checkpoint.
    `licence`: of the weights, by the Hub's name for it; None: whoever publishes them says.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    numbers: Sequence[Number] = ()
    start: str | None = None
    published: bool = False
    licence: str | None = None


def card(model: Model, about: About, augment: AugmentConfig, graphs: Sequence[str] = ()) -> str:
    """The text of README.md. `graphs`: names of the files that hold the model as graphs."""
    config, names, method = model.config, model.class_names, methods.get(model.config.name)
    licence = about.licence or (about.published and method.published_licence) or "other"
    facts = {
        "Method": f"{method.title} ({f'[paper]({method.paper})' if method.paper else 'no paper'})",
        "Backbone": f"{config.backbone}, {sum(p.numel() for p in model.parameters()):,} parameters",
        **about.facts,
    }
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=f"---\n{_metadata(model, about, licence).to_yaml()}\n---",
        title=about.title,
        summary=f"A video classifier with open vocabulary: {config.num_frames} frames of a video "
        f"are compared with the names of classes. It was trained on {len(names)} of them, and "
        "takes any others.",
        facts=_table(["", ""], [[name, text] for name, text in facts.items()]),
        numbers=_numbers(about.numbers),
        reading=_reading(model, augment),
        classes=_classes(names),
        limits=_LIMITS.format(frames=config.num_frames),
        licence=_origin(about, method, licence),
        graphs=_graphs(graphs, augment),
    )


def _metadata(model: Model, about: About, licence: str) -> ModelCardData:
    results = [
        EvalResult(
            task_type="video-classification", dataset_type=one.dataset, dataset_name=one.title,
            dataset_split=", ".join(one.splits), metric_type="accuracy",
            metric_value=round(one.value, 2),
            metric_name=f"{one.metric}, {one.views} views, {one.statistic}"
            + (f" ({one.std:.2f})" if one.std is not None else ""),
        )
        for one in about.numbers
    ]  # fmt: skip
    base = BASE_MODELS.get(model.config.backbone) if about.start == "openai" else None
    return ModelCardData(
        license=licence, library_name="pytorch", pipeline_tag="video-classification",
        tags=["video-classification", "action-recognition", "open-vocabulary", "clip", "tc-clip"],
        base_model=base, model_name=about.title, eval_results=results or None,
    )  # fmt: skip


def _origin(about: About, method: Method, licence: str) -> str:
    parts = ["`tcclip_model.py`: Apache-2.0, made from the sources of tcclip-sweeps."]
    if about.published:
        parts.append(f"The weights are those of a published checkpoint of {method.title}.")
    elif about.start == "openai":
        parts.append("The weights were trained from OpenAI's CLIP, which is under the MIT licence.")
    elif about.start == "random":
        parts.append("The weights were trained from random ones: no other model's are in them.")
    elif about.start:
        parts.append(f"The weights were trained from CLIP weights of a file ({about.start}).")
    else:
        parts.append("It is not recorded which weights these were trained from.")
    if licence == "other":
        parts.append(
            "Whoever publishes the weights says under which licence, and heeds the terms of the "
            "data they were trained on: `tcclip export --license`, or `license:` above."
        )
    else:
        parts.append(f"The weights are published under: {licence}.")
    return " ".join(parts)


def _numbers(numbers: Sequence[Number]) -> str:
    if not numbers:
        return "No results are recorded of these weights."
    rows = [
        [
            f"{one.title} ({', '.join(one.splits)})", one.metric, one.views,
            f"{one.value:.2f}" + (f" ± {one.std:.2f}" if one.std is not None else ""),
            one.statistic, f"{one.videos:,}", one.source,
        ]
        for one in numbers
    ]  # fmt: skip
    heads = ["Data set (splits)", "Metric", "Views", "Percent", "Statistic", "Videos", "Run"]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _reading(model: Model, augment: AugmentConfig) -> str:
    mean, std = NORMALISATIONS[augment.normalisation]
    return (
        f"The middle frame of each of {model.config.num_frames} equal parts of the video; the "
        f"short side resized to {augment.resize} pixels (bilinear as OpenCV's), the centre of "
        f"{augment.crop} x {augment.crop} cut out; RGB from 0 to 255 minus {mean}, over {std}. "
        "`model.views` does it; with `clips` and `crops` it takes several views, whose "
        "probabilities are averaged."
    )


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_CLASSES])
    more = f", and {len(names) - MOST_CLASSES} more in `model.json`" * (len(names) > MOST_CLASSES)
    return f"<details><summary>{len(names)} classes</summary>\n\n{shown}{more}\n\n</details>"


def _graphs(files: Sequence[str], augment: AugmentConfig) -> str:
    if not files:
        return ""
    encoder, scores = files
    how = {
        ".pt2": ("import torch", 'torch.export.load("{}").module()'),
        ".pt": ("import torch", 'torch.jit.load("{}")'),
        ".onnx": ("import onnxruntime", 'onnxruntime.InferenceSession("{}")'),
    }["." + encoder.split(".")[-1]]
    size = augment.crop
    run = f"logits = scores(*encoder(video))  # (batch, frames, 3, {size}, {size}), normalised"
    if encoder.endswith(".onnx"):
        run = "# encoder.run: {'video': ...} -> feature, contexts; scores.run: these -> logits"
    lines = [how[0], f"encoder = {how[1].format(encoder)}", f"scores = {how[1].format(scores)}"]
    block = "\n".join([*lines, run])
    return (
        f"\nWithout Python's classes: `{GRAPHS[0]}` encodes videos, `{GRAPHS[1]}` scores them "
        f"against the classes below, in float32.\n\n```python\n{block}\n```\n"
    )
