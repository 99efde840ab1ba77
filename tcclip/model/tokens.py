"""Class names to CLIP tokens (SPEC 2.2).

Shape legend: n classes, s longest class suffix of the list (name, full stop, end-of-text).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tcclip.config import ModelConfig, Wording

PROMPT_WORDS = "a photo of a"
USUAL = Wording()
#: Padded to the longest of 8 buckets, the lists of Kinetics and SSv2 grow by 0 to 11 %; to the
#: longest of all, by 30 to 120 %.
MOST_BUCKETS = 8
#: A bucket is attended on its own; for fewer names that costs more than their padding.
NAMES_PER_BUCKET = 16


@cache
def tokenizer() -> Any:
    """CLIP's byte-pair encoder, open_clip's `SimpleTokenizer`, read once.

    Its file alone is run: the package imports torchvision, timm and its models, which takes longer
    than all else that a worker imports.
    """
    package = find_spec("open_clip")
    assert package is not None and package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = spec_from_file_location("open_clip_tokenizer", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


@dataclass(frozen=True)
class Prompts:
    """A tokenised class list, split where the class-independent part ends.

    `prefix` (p,): start-of-text and the prompt words; `suffix` (n, s): the rest, padded with 0
    after end-of-text; `eot` (n,): the position of end-of-text in the suffix. `order` (n,): the
    classes by bucket, shorter ones first; `rank` (n,): where a class stands in it. All int64.
    `buckets`: how many classes each has, and its longest suffix.
    """

    prefix: Tensor
    suffix: Tensor
    eot: Tensor
    order: Tensor
    rank: Tensor
    buckets: tuple[tuple[int, int], ...]


def normalise_name(name: str, *, underscores: bool = False) -> str:
    """`ApplyEyeMakeup` -> `Apply Eye Makeup`, `brush_hair` -> `brush hair` (all data sets).

    Quirk: the published ViFi-CLIP and CLIP keep underscores (`underscores`), which are separate
    tokens for CLIP; names with spaces avoid that.
    """
    spaced = re.sub(r"([A-Z])", r" \1", name if underscores else name.replace("_", " "))
    return " ".join(spaced.split())


def word_ids(text: str) -> list[int]:
    """Token ids of `text`, without start- and end-of-text."""
    ids: list[int] = tokenizer().encode(text)
    return ids


def tokenise(
    names: Sequence[str], config: ModelConfig, device: torch.device, wording: Wording = USUAL
) -> Prompts:
    """The texts of a class list, in the `wording` of the model's method.

    ValueError for an empty list, an empty name or a name too long for the text length.
    """
    if not names or isinstance(names, str):
        raise ValueError(f"the class list is {names!r}; give a list of at least one class name")
    encoder = tokenizer()
    words = word_ids(wording.prompt.partition("{}")[0])
    if config.prompted_layers:
        words = [0] * config.prompt_length  # learnable vectors take their places
    room = config.text_length - 1 - len(words)
    suffixes = [_suffix(name, wording, room) for name in names]
    ends = [len(ids) for ids in suffixes]
    suffix = torch.zeros(len(names), max(ends) + 1, dtype=torch.long)
    for row, ids in enumerate(suffixes):
        suffix[row, : len(ids) + 1] = torch.tensor([*ids, encoder.eot_token_id])
    order, buckets = _bucketed([end + 1 for end in ends])
    return Prompts(
        prefix=torch.tensor([encoder.sot_token_id, *words], device=device),
        suffix=suffix.to(device),
        eot=torch.tensor(ends, device=device),
        order=torch.tensor(order, device=device),
        rank=torch.tensor(order).argsort().to(device),
        buckets=buckets,
    )


def _bucketed(lengths: list[int]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Indices of `lengths` by bucket, and each bucket's size and longest length. Buckets span
    equally many lengths, as few as the number of buckets allows."""
    most = max(1, min(MOST_BUCKETS, len(lengths) // NAMES_PER_BUCKET))
    for span in count(1):
        buckets = [-(-length // span) for length in lengths]
        if len(set(buckets)) <= most:
            break
    order = sorted(range(len(lengths)), key=buckets.__getitem__)
    members = [[i for i in order if buckets[i] == bucket] for bucket in sorted(set(buckets))]
    return order, tuple((len(own), max(lengths[i] for i in own)) for own in members)


def _suffix(name: str, wording: Wording, room: int) -> list[int]:
    """Token ids of a class name; ValueError if end-of-text does not fit after them."""
    text = normalise_name(name, underscores=wording.underscores)
    ids = word_ids(text + wording.prompt.partition("{}")[2])
    if not text:
        raise ValueError(f"class name {name!r} is empty; every class needs a name")
    if len(ids) + 1 > room:
        raise ValueError(
            f"class name {name[:80]!r} needs {len(ids) + 1} tokens, but only {room} are left "
            "of the text length beside the prompt; shorten the name or raise text_length "
            "(77 is CLIP's limit)"
        )
    return ids
