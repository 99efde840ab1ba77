"""Files of weights that a user gives: a run is identified by their content, not by their path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.errors import MissingData, UserError, user_errors
from experiments.grid.overrides import Settings
from tcclip.config import FrozenModel, ModelConfig
from tcclip.data.annotations import sha256_of

#: The setting that may name a file, and its values that name none.
CLIP_WEIGHTS = "train.clip_weights"
NAMED_WEIGHTS = ("openai", "random")
#: What stands for a file in a run's settings, before its sha256.
SCHEME = "sha256:"


def digest(path: Path) -> str:
    """sha256 of a file of weights; MissingData if it is not there."""
    if not path.is_file():
        raise MissingData(f"no file of weights at {path.absolute()}")
    return sha256_of(path)


def replace_path(
    settings: Mapping[str, Any], files: dict[str, Path], folder: Path | None = None
) -> Settings:
    """`settings` with the sha256 of a file of CLIP's weights in place of its path.

    The file is added to `files` (sha256 -> absolute path). A relative path starts at `folder`, by
    default the working directory. MissingData if there is no such file, UserError if it holds no
    CLIP weights.
    """
    value = settings.get(CLIP_WEIGHTS)
    if not isinstance(value, str) or value in NAMED_WEIGHTS or value.startswith(SCHEME):
        return Settings(settings)
    path = ((folder or Path()) / Path(value).expanduser()).absolute()
    if not path.is_file():
        raise MissingData(
            f"{Settings(settings).named(CLIP_WEIGHTS)}={value}: no file at {path}; allowed: "
            f"{', '.join(NAMED_WEIGHTS)}, or a file of CLIP's weights (OpenAI's, Hugging Face's or "
            "open_clip's names)"
        )
    check_use(path, "clip")
    content = digest(path)
    files[content] = path
    return Settings({**settings, CLIP_WEIGHTS: SCHEME + content}, Settings(settings).sources)


def check_use(path: Path, use: Literal["checkpoint", "clip"]) -> None:
    """UserError, with what the file is and what to do, unless it can be used as a checkpoint or as
    CLIP's starting weights. Looks at the names and shapes of its tensors."""
    from tcclip.weights.clip_weights import checked_clip
    from tcclip.weights.layouts import look_at

    with user_errors():
        if use == "checkpoint":
            look_at(path).require("checkpoint")
        else:
            checked_clip(path, ModelConfig())


def activation_notes(used: Iterable[tuple[str, str]], files: Mapping[str, Path]) -> list[str]:
    """What a user has to know of the MLPs' activation, which no file of weights says (SPEC 1).

    `used`: (`train.clip_weights`, `model.activation`) of the runs.
    """
    notes = []
    for weights, activation in sorted(set(used)):
        if weights == "openai" and activation == "gelu":
            notes.append("model.activation=gelu: OpenAI's weights were trained with quick_gelu")
        # TorchScript is how OpenAI published its weights, all with QuickGELU.
        path = files.get(weights.removeprefix(SCHEME))
        if path is not None and activation == "quick_gelu" and not _is_script(path):
            notes.append(
                f"{path} does not say which activation its CLIP was trained with; quick_gelu is "
                "used, as in OpenAI's. For weights trained with GELU, as most of open_clip's and "
                "LAION's: --set model.activation=gelu"
            )
    return notes


def _is_script(path: Path) -> bool:
    from tcclip.weights.layouts import look_at  # imports torch

    return look_at(path).script


class StartWeights(FrozenModel):
    """The CLIP weights a training started from: a name or sha256, and the seed of random ones."""

    clip_weights: str
    seed: int


def weights_to_ensemble(
    recorded: StartWeights | None, setting: str | None, default: str
) -> StartWeights | str:
    """The weights to ensemble a checkpoint with, or the reason why it cannot be ensembled.

    `recorded`: those that the checkpoint names; published ones name none and started from
    OpenAI's. `setting`: those the user names; `default`: the protocol's. UserError if the user
    names other weights than the recorded ones.
    """
    if recorded is None:
        if (setting or default) == "random":
            return "the checkpoint does not say which random weights it started from"
        return StartWeights(clip_weights=setting or default, seed=0)
    if setting is not None and setting != recorded.clip_weights:
        raise UserError(
            f"{CLIP_WEIGHTS}={setting}: the checkpoint started from {recorded.clip_weights}, and "
            "is ensembled with nothing else; drop the setting, or give --no-ensemble"
        )
    if setting is None and recorded.clip_weights.startswith(SCHEME):
        return (
            f"the checkpoint started from the file with {recorded.clip_weights}; "
            f"give it with --set {CLIP_WEIGHTS}=FILE"
        )
    return recorded


def check_file(path: Path, expected: str) -> None:
    """MissingData unless the file is there, and still has the content with this sha256."""
    if not path.is_file():
        raise MissingData(f"{path} is not there; every node must have it at this path")
    if sha256_of(path) != expected:
        raise MissingData(f"{path} does not hold what it did when the run was planned")
