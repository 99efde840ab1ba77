"""Class names to CLIP tokens (SPEC 2.2).

Shape legend: n classes, s longest class suffix of the list (name, full stop, end-of-text).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

PROMPT_WORDS = "a photo of a"


@cache
def tokenizer() -> SimpleTokenizer:
    """CLIP's byte-pair encoder, read once."""
    return SimpleTokenizer()


@dataclass(frozen=True)
class Prompts:
    """A tokenised class list, split where the class-independent part ends.

    `prefix` (p,): start-of-text and the prompt words; `suffix` (n, s): the rest, padded with 0
    after end-of-text; `eot` (n,): the position of end-of-text in the suffix. All int64.
    """

    prefix: Tensor
    suffix: Tensor
    eot: Tensor

    def to(self, device: torch.device) -> Prompts:
        """The same on another device."""
        return Prompts(self.prefix.to(device), self.suffix.to(device), self.eot.to(device))


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
    names: Sequence[str], *, words: int, template: bool, length: int, underscores: bool = False
) -> Prompts:
    """Tokenise a class list for a text length of `length` tokens.

    `words` tokens precede the name: the last ones of "... a photo of a", whose embeddings a
    learnable prompt replaces. With `template` false the text is the bare name (and `words` is
    0), without the full stop. `underscores` keeps them in the names.
    ValueError for an empty list, an empty name or a name too long for `length`.
    """
    if not names or isinstance(names, str):
        raise ValueError(f"the class list is {names!r}; give a list of at least one class name")
    encoder = tokenizer()
    prefix = [encoder.sot_token_id, *prompt_word_ids(words)]
    texts = [normalise_name(name, underscores=underscores) for name in names]
    room = length - len(prefix)
    suffixes = [
        _suffix(name, f"{text}." if template and text else text, room)
        for name, text in zip(names, texts, strict=True)
    ]
    ends = [len(ids) for ids in suffixes]
    suffix = torch.zeros(len(names), max(ends) + 1, dtype=torch.long)
    for row, ids in enumerate(suffixes):
        suffix[row, : len(ids) + 1] = torch.tensor([*ids, encoder.eot_token_id])
    return Prompts(torch.tensor(prefix), suffix, torch.tensor(ends))


def prompt_word_ids(words: int) -> list[int]:
    """The last `words` tokens of "a photo of a", repeated as often as needed."""
    ids = word_ids(PROMPT_WORDS)
    repeated = ids * -(-words // len(ids))
    return repeated[len(repeated) - words :]


def _suffix(name: str, text: str, room: int) -> list[int]:
    """Token ids of one class's text; ValueError if end-of-text does not fit after them."""
    ids = word_ids(text)
    if not ids:
        raise ValueError(f"class name {name!r} is empty; every class needs a name")
    if len(ids) + 1 > room:
        raise ValueError(
            f"class name {name!r} needs {len(ids) + 1} tokens, but only {room} are left of the "
            "text length beside the prompt; shorten the name or raise text_length "
            "(77 is CLIP's limit)"
        )
    return ids
