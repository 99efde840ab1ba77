"""Files of weights that a user gives: what is in them is part of a run, where they are is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import MissingData, UserError
from tcclip.config import FrozenModel
from tcclip.data.annotations import sha256_of

SETTING = "train.clip_weights"
#: Values of it that are no file.
NAMED = ("openai", "random")
#: What stands for a file in a run's settings, before its sha256.
SCHEME = "sha256:"


def digest(path: Path) -> str:
    """sha256 of a file of weights; MissingData if it is not there."""
    if not path.is_file():
        raise MissingData(f"no file of weights at {path.absolute()}")
    return sha256_of(path)


def by_content(
    settings: Mapping[str, Any], files: dict[str, Path], folder: Path | None = None
) -> dict[str, Any]:
    """`settings` with the sha256 of a file of CLIP's weights in place of its path.

    `files` (sha256 -> file, absolute) gets the file. A relative path starts at `folder`, or where
    the command was given. MissingData if there is no such file.
    """
    value = settings.get(SETTING)
    if not isinstance(value, str) or value in NAMED or value.startswith(SCHEME):
        return dict(settings)
    path = ((folder or Path()) / Path(value).expanduser()).absolute()
    if not path.is_file():
        raise MissingData(
            f"{SETTING}={value}: no file at {path}; allowed: {', '.join(NAMED)}, or a file of "
            "OpenAI-named CLIP weights"
        )
    content = digest(path)
    files[content] = path
    return {**settings, SETTING: SCHEME + content}


class Start(FrozenModel):
    """The CLIP weights a training started from: their name or content, and the seed of a draw."""

    clip_weights: str
    seed: int


def starting(recorded: Start | None, asked: str | None, default: str) -> Start | str:
    """The weights to ensemble a checkpoint with, or why there are none.

    `recorded`: what the checkpoint says it started from; published ones say nothing and started
    from OpenAI's. `asked`: the user's setting; `default`: the protocol's. UserError if the user
    names other weights than the recorded ones.
    """
    if recorded is None:
        if (asked or default) == "random":
            return "the checkpoint does not say which random weights it started from"
        return Start(clip_weights=asked or default, seed=0)
    if asked is not None and asked != recorded.clip_weights:
        raise UserError(
            f"{SETTING}={asked}: the checkpoint started from {recorded.clip_weights}, and is "
            "ensembled with nothing else; drop the setting, or give --no-ensemble"
        )
    if asked is None and recorded.clip_weights.startswith(SCHEME):
        return (
            f"the checkpoint started from the file with {recorded.clip_weights}; "
            f"give it with --set {SETTING}=FILE"
        )
    return recorded


def check(contents: Iterable[str], files: Mapping[str, Path]) -> None:
    """MissingData unless the file of each sha256 in `contents` is here and still holds that."""
    for content in contents:
        path = files.get(content)
        if path is None:
            raise MissingData(f"no file was given for the weights with sha256 {content}")
        if not path.is_file():
            raise MissingData(f"{path} is not there; every node must have it at this path")
        if sha256_of(path) != content:
            raise MissingData(f"{path} does not hold what it did when the run was planned")
