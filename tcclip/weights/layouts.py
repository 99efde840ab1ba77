"""Whose weights a file holds, told by the names of its tensors, and what they can be used for.

`LAYOUTS` is the whole knowledge, beside what methods say of their published weights: add a row to
have another project's files named.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from tcclip import methods
from tcclip.weights.parameter_names import from_huggingface, from_published, listed
from tcclip.weights.stubs import MAX_PARTS, Parts, Stub, module_tensors
from tcclip.weights.weight_files import read_file

log = logging.getLogger(__name__)

#: "checkpoint": a trained model of this project. "clip": CLIP's weights, to start from.
Use = Literal["checkpoint", "clip"]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One way to name weights. `keys`: patterns, each of which some tensor's name contains.

    `use`: what they can be used for, None for models that this program cannot run. `rename`: to
    our names for a checkpoint, to OpenAI's for CLIP; values stay exactly the same. `method`:
    the one whose published checkpoints these are.
    """

    name: str
    keys: tuple[str, ...]
    use: Use | None = None
    rename: Callable[[State], State] = dict
    advice: str = "this program cannot run it, use its own"
    method: str | None = None


def _published(name: str) -> Layout:
    """How a method's published weights are named."""
    method = methods.shown(name)
    rename = partial(from_published, published_name=method.published_name)
    title = f"published {method.title}"
    return Layout(title, method.published_keys, "checkpoint", rename, method=name)


#: The name of this project's own checkpoints.
OWN = "this program's TC-CLIP, ViFi-CLIP or CLIP"
CLIP_PART = (
    "this program cannot run it, use its own; to start from its CLIP alone, save that state dict "
    "under OpenAI's names"
)
#: The first row whose keys are all found. Names are searched with what they are nested in.
LAYOUTS = (
    Layout("Open-VCLIP or FROSTER",
           (r"\braw_model\.|\bmodel_state\.(module\.)?model\.projector",), advice=CLIP_PART),
    Layout("X-CLIP", (r"\bmit\.|\bprompts_generator\.|\bmessage_(fc|attn|ln)\b",)),
    Layout("ActionCLIP",
           (r"\bfusion_model_state_dict\b|\bframe_position_embeddings\b|\bvisual\.time_embedding",),
           advice=CLIP_PART),
    Layout("LoRA adapters", (r"\blora_[AB]\b|\blora_(up|down)\b",),
           advice="merge them into the weights they change, with their own library"),
    Layout("CLIP with adapters (AIM, ST-Adapter or alike)", (r"(?i)adapter",)),
    Layout("ViFi-CLIP with vision-language prompts", (r"\bVPT(_shallow)?$",)),
    _published("open_vclip"),
    _published("tc_clip"),
    Layout("ViFi-CLIP with vision-language prompts", (r"\bimage_encoder\.", r"prompt_learner.ctx")),
    _published("vifi_clip"),
    Layout("a prompt learner (CoOp, MaPLe or alike)", (r"prompt_learner\.|^(.*\.)?token_prefix$",)),
    Layout(OWN, (r"\bvision\.blocks\.", r"\btext\.blocks\."), "checkpoint"),
    Layout("SigLIP", (r"\blogit_bias$",)),
    Layout("a CLIP ResNet", (r"\bvisual\.(layer1|attnpool)\.",), advice="take a CLIP ViT"),
    Layout("CoCa", (r"\btext_decoder\.",), advice="take a CLIP ViT"),
    Layout("CLIP with a timm or EVA tower", (r"\bvisual\.(trunk|blocks)\.",),
           advice="take a CLIP ViT with OpenAI's names"),
    Layout("CLIP with Hugging Face's names",
           (r"\bvision_model\.encoder\.layers\.", r"\btext_model\.encoder\.layers\."),
           "clip", from_huggingface),
    Layout("one tower of a Hugging Face model", (r"\b(vision|text)_model\.",),
           advice="give the file of the whole CLIP model, with both towers"),
    Layout("CLIP with open_clip's names (custom text tower)",
           (r"\bvisual\.conv1\.weight$", r"\btext\.transformer\.resblocks\."), "clip",
           lambda state: {name.removeprefix("text."): x for name, x in state.items()}),
    Layout("CLIP in an open_clip training file",
           (r"^state_dict\.(module\.)?visual\.conv1\.",), "clip"),
    Layout("CLIP with OpenAI's names",
           (r"\bvisual\.conv1\.weight$|\binput_resolution$",
            r"(?<!visual\.)\btransformer\.resblocks\.|\blogit_scale$"), "clip"),
    Layout("a ViT without a text tower (timm, VideoMAE)", (r"\bblocks\.\d+\.attn\.(qkv|proj)\.",)),
    Layout("a ViT without a text tower (Hugging Face)", (r"\bencoder\.layer\.\d+\.attention\.",)),
)  # fmt: skip


def rows() -> tuple[Layout, ...]:
    """`LAYOUTS`, and before it what other packages' methods say of theirs."""
    known = {row.method for row in LAYOUTS}
    others = [name for name in methods.names() if name not in known]
    return (*(_published(name) for name in others if methods.shown(name).published_keys), *LAYOUTS)


UNKNOWN = Layout("tensors with unknown names", ())

#: Parts of a name that say how a module was wrapped (DDP, torch.compile, FSDP).
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: First parts of names that are towers of a model, and no wrapper of the whole.
TOWERS = {
    "visual", "vision", "vision_model", "text", "text_model", "image_encoder", "text_encoder",
    "transformer", "blocks", "encoder",
}  # fmt: skip
#: Counters and sizes beside the weights.
NO_WEIGHTS = ("n_averaged", "num_batches_tracked")
#: Dicts are nested this deep at most; a pickle can hold itself.
MAX_DEPTH = 5
#: Far more tensors, and longer names, than any model has that this program runs.
MAX_TENSORS, MAX_NAME = 50_000, 300


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights. `state`: its tensors, unwrapped, under the file's own names.

    `content`: what stands beside them. `where`: the keys it was nested in, "" for none. `others`:
    further state dicts in the file, which are left out. `script`: it is a TorchScript program.
    """

    path: Path
    layout: Layout
    state: State
    content: Mapping[str, Any]
    where: str
    others: tuple[str, ...]
    script: bool

    def require(self, use: Use) -> None:
        """ValueError, with what the file is and what to do, unless it can be used so."""
        if self.layout.use != use:
            wanted = "is no checkpoint of TC-CLIP or ViFi-CLIP"
            if use == "clip":
                wanted = "holds no plain CLIP weights"
            raise ValueError(f"{self.path} {wanted}: {self._instead()}")

    def renamed(self, use: Use) -> State:
        """The tensors under our names (a checkpoint) or OpenAI's (CLIP).

        ValueError as `require`.
        """
        self.require(use)
        if self.others:
            log.warning("%s: reading %r, not %s", self.path, self.where, ", ".join(self.others))
        return self.layout.rename(self.state)

    def _instead(self) -> str:
        """What it is, and what to do with it."""
        if self.layout is UNKNOWN:
            return f"it holds {UNKNOWN.name} ({listed(self.state)}); known: {known()}"
        if self.layout.use == "clip":
            remedy = f"start from them with --set train.clip_weights={self.path}"
            return f"it holds {self.layout.name}; {remedy}"
        if self.layout.use == "checkpoint":
            remedy = "test it with `tcclip evaluate --checkpoint`, or start pretrained runs from it"
            return f"it is a checkpoint ({self.layout.name}); {remedy} with --init-checkpoint"
        return f"it holds {self.layout.name}; {self.layout.advice}"


def known() -> str:
    """The layouts that can be used, as a list for messages."""
    return ", ".join(row.name for row in rows() if row.use)


def look_at(path: Path) -> WeightsFile:
    """Whose weights a file holds; its tensors are mapped, not read, where the format allows.

    FileNotFoundError and ValueError as `read_file`; ValueError if there is no tensor in it.
    """
    content = read_file(path)
    try:
        found = dict(state_dicts(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not found:
        raise ValueError(f"{path} holds no tensor by name; known: {known()}")
    # The model's, not a part beside it; an average of weights only if there is no other.
    most = max(map(len, found.values()))
    where = max(found, key=lambda one: (2 * len(found[one]) > most, "ema" not in one.lower()))
    names = [f"{above}.{name}".lstrip(".") for above, state in found.items() for name in state]
    beside = content if isinstance(content, Mapping) else {}
    # ActionCLIP's part for the frames is empty if it takes their mean.
    names += [str(name) for name, value in beside.items() if isinstance(value, Mapping)]
    longest = max(map(len, names))
    if len(names) > MAX_TENSORS or longest > MAX_NAME:
        raise ValueError(
            f"{path} is no model that this program runs: {len(names):,} tensors, names of up to "
            f"{longest:,} characters"
        )
    try:
        state = unwrapped(found[where])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    others = tuple(sorted(f"{one!r}" for one in found if one != where and len(found[one]) > 1))
    script = isinstance(content, Stub) and content.path.startswith("__torch__.")
    return WeightsFile(path, layout_of(names), state, beside, where, others, script)


def layout_of(names: Collection[str]) -> Layout:
    """The first layout whose keys are all found in `names`."""
    for row in rows():
        if all(any(re.search(key, name) for name in names) for key in row.keys):
            return row
    return UNKNOWN


def state_dicts(
    content: Any, where: str = "", depth: int = 0, parts: Parts | None = None
) -> Iterator[tuple[str, State]]:
    """Every dict of tensors in what a file holds, by the keys it is nested in.

    ValueError if it holds more than a file can, the same dicts again and again.
    """
    parts = parts or Parts("what it holds", MAX_PARTS)
    if isinstance(content, Stub):
        content = module_tensors(content)
    if not isinstance(content, Mapping) or depth > MAX_DEPTH:
        return
    parts.take(len(content))
    named = {name: x for name, x in content.items() if isinstance(name, str)}
    tensors = {name: x.detach() for name, x in named.items() if isinstance(x, Tensor)}
    if tensors:
        yield where, tensors
    for name, value in named.items():
        # The optimizer keeps tensors of the weights' shapes.
        if not name.startswith("optim"):
            yield from state_dicts(value, f"{where}.{name}" if where else name, depth + 1, parts)


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """The tensors without what their names say of wrappers: `module.`, `_orig_mod.`, a first part
    that all share. ValueError if two names become one."""
    names = {
        name: [part for part in name.split(".") if part not in WRAPPERS]
        for name in state
        if name.rpartition(".")[2] not in NO_WEIGHTS
    }
    while names and all(len(parts) > 1 for parts in names.values()):
        first = {parts[0] for parts in names.values()}
        if len(first) > 1 or first & TOWERS:
            break
        names = {name: parts[1:] for name, parts in names.items()}
    plain = {".".join(parts): state[name] for name, parts in names.items()}
    if len(plain) < len(names):
        raise ValueError("it holds several tensors of the same name but for their wrappers")
    return plain
