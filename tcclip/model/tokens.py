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

    `prefix` (p,): start-of-text and the prompt words' places; `suffix` (n, s): the rest, padded
    with 0 after end-of-text; `eot` (n,): end-of-text's place within the suffix. All int64.
    """

    names: tuple[str, ...]
    prefix: Tensor
    suffix: Tensor
    eot: Tensor

    def to(self, device: torch.device) -> Prompts:
        """The same on another device."""
        moved = (x.to(device) for x in (self.prefix, self.suffix, self.eot))
        return Prompts(self.names, *moved)


def normalise_name(name: str) -> str:
    """`ApplyEyeMakeup` -> `Apply Eye Makeup`, `brush_hair` -> `brush hair` (all data sets)."""
    spaced = re.sub(r"([A-Z])", r" \1", name.replace("_", " "))
    return " ".join(spaced.split())


def word_ids(text: str) -> list[int]:
    """Token ids of `text`, without start- and end-of-text."""
    ids: list[int] = tokenizer().encode(text)
    return ids


def tokenise(names: Sequence[str], *, words: int, template: bool, length: int) -> Prompts:
    """Tokenise a class list for a text length of `length` tokens.

    `words` places precede the name: those of "a photo of a" (repeated from its end if there are
    more), whose embeddings a learnable prompt replaces. With `template` false the text is the
    bare name (and `words` is 0), without the full stop. ValueError for an empty list, an empty
    name or a name too long for `length`.
    """
    if not names:
        raise ValueError("the class list is empty; give at least one class name")
    encoder = tokenizer()
    prefix = [encoder.sot_token_id, *prompt_word_ids(words)]
    suffixes = [_suffix(name, template, length - len(prefix)) for name in names]
    ends = [len(ids) for ids in suffixes]
    suffix = torch.zeros(len(names), max(ends) + 1, dtype=torch.long)
    for row, ids in enumerate(suffixes):
        suffix[row, : len(ids) + 1] = torch.tensor([*ids, encoder.eot_token_id])
    return Prompts(tuple(names), torch.tensor(prefix), suffix, torch.tensor(ends))


def prompt_word_ids(words: int) -> list[int]:
    """The last `words` tokens of "... a photo of a": the places a learnable prompt fills."""
    ids = word_ids(PROMPT_WORDS)
    repeated = ids * -(-words // len(ids))
    return repeated[len(repeated) - words :]


def _suffix(name: str, template: bool, room: int) -> list[int]:
    """Token ids of one name (and the template's full stop), checked to leave room for the end."""
    text = normalise_name(name)
    if not text:
        raise ValueError(f"class name {name!r} is empty; every class needs a name")
    ids = word_ids(f"{text}." if template else text)
    if len(ids) + 1 > room:
        raise ValueError(
            f"class name {name!r} needs {len(ids) + 1} tokens, but only {room} are left of the "
            "text length beside the prompt; shorten the name or raise text_length "
            "(77 is CLIP's limit)"
        )
    return ids
