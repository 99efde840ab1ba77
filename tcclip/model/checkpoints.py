"""Checkpoints: our own format, the published one, and weight ensembling (SPEC 5, 8).

Our own: `NAME.safetensors` with the parameters under our names, and `NAME.json` beside it with
the format's version, the model's settings, the class names, what the training started from, how
its videos were cropped and its precision.
`ValueError` for a file that is damaged or would run code, and for tensors that are missing,
unexpected or of another shape than the model's; `FileNotFoundError` for a missing file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from tcclip import methods
from tcclip.config import AugmentConfig, ModelConfig, Precision
from tcclip.methods.tc_clip import CLASS_BUFFERS
from tcclip.model.build import empty_model
from tcclip.model.tc_clip import Model
from tcclip.model.tokens import tokenizer
from tcclip.text_files import mistake
from tcclip.weights.clip_weights import geometry_of
from tcclip.weights.layouts import OWN, Use, WeightsFile, layout_of, look_at, unwrapped
from tcclip.weights.parameter_names import TOKEN_EMBEDDING, is_clip_parameter, listed, mismatch
from tcclip.weights.published_config import published_config
from tcclip.weights.weight_files import is_safetensors

logger = logging.getLogger(__name__)

FORMAT = "tcclip"
VERSION = 1
HUB, FILE_ON_HUB = "hf://", "model.safetensors"
#: The json beside a checkpoint has some KB: settings and class names.
MAX_JSON = 2**24
#: Settings that change the pixels and frames of a test view.
TEST_VIEW = {"resize", "crop", "normalisation", "view_sampling"}
#: What a published checkpoint does not keep.
NOT_KEPT = {"class_names": None, "start": None}


def load_checkpoint(
    model: Model, source: str | Path | Mapping[str, Tensor], *, ensemble_weight: float | None = None
) -> None:
    """Put fine-tuned weights into `model`, in place.

    `source`: a path or `hf://owner/repository/file`, or a state dict, in our own or the published
    names. `ensemble_weight` w in [0, 1]: the model's present weights are CLIP's, and the result
    is (1 - w) * CLIP + w * fine-tuned for every parameter CLIP has (SPEC 5). The published format
    holds no token embedding: the model keeps its own. Errors: see above.
    """
    where = "the state dict" if isinstance(source, Mapping) else str(source)
    present = model.state_dict()
    if isinstance(source, Mapping):
        given = unwrapped(source)
        tuned = layout_of(given).rename(given)
    else:
        found = look_at(fetch(source))
        given, tuned = found.state, found.renamed("checkpoint")
        _check_activation(model.config, found)
    _check(present, tuned, where)
    if TOKEN_EMBEDDING not in tuned:
        _compare_start_token(present[TOKEN_EMBEDDING], given, where)
    if ensemble_weight is not None:
        tuned = ensembled_state(present, tuned, ensemble_weight)
    model.load_state_dict({TOKEN_EMBEDDING: present[TOKEN_EMBEDDING], **tuned})


def check_fits(config: ModelConfig, source: str | Path) -> None:
    """ValueError unless a checkpoint's tensors are those of a model with these settings."""
    model = empty_model(config)
    found = look_at(fetch(source))
    _check_activation(config, found)
    _check(model.state_dict(), found.renamed("checkpoint"), str(source))


def save_checkpoint(
    model: Model,
    path: str | Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    start: Mapping[str, str | int] | None = None,
    augment: AugmentConfig | None = None,
    precision: Precision | None = None,
) -> None:
    """Write `path` (.safetensors) and the .json beside it, never half a file.

    `state`: weights that the model had, to write instead of its present ones. `start`: the CLIP
    weights the training started from, as `clip_weights` and `seed`, which the model may be
    ensembled with; `augment`, `precision`: what its videos were read with, and it computed in.
    None if not known.
    """
    about: dict[str, Any] = {"class_names": list(model.class_names), "start": start}
    if augment is not None:
        about["test_view"] = augment.model_dump(mode="json", include=TEST_VIEW)
    if precision is not None:
        about["precision"] = precision
    _write(model.state_dict() if state is None else state, path, model.config, about)


def ensembled_state(
    start_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """(1 - weight) * start + weight * tuned for what CLIP has, tuned for the rest; our names.

    ValueError for a weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(
            f"ensemble_weight {weight} is not between 0 (CLIP) and 1 (fine-tuned); published: 0.7"
        )
    return {
        name: torch.lerp(start_state[name].to(tuned), tuned, weight)
        if is_clip_parameter(name)
        else tuned
        for name, tuned in tuned_state.items()
    }


def test_view(recorded: Any, model: ModelConfig, augment: AugmentConfig) -> dict[str, Any]:
    """The settings of `augment` that a checkpoint's test videos need: those it recorded.

    One that records none (published, older) is shown crops of its own image size, cut from as much
    of a video as `augment` does. ValueError for a record that is no table.
    """
    size = model.sizes.image_size
    if recorded is None and size != augment.crop:
        recorded = {"crop": size, "resize": round(augment.resize * size / augment.crop)}
    if not isinstance(recorded or {}, Mapping):
        raise ValueError(f"the checkpoint's test_view is {recorded!r}, not a table of settings")
    return dict(recorded or {})


def convert(source: str | Path, destination: str | Path) -> None:
    """A published checkpoint (path or hf://) into our own format at `destination`.

    It holds neither the class names nor the token embedding: a model keeps its own on loading.
    Settings come from the tensors' shapes and the checkpoint's own `config`.
    """
    found = look_at(fetch(source))
    if _is_own(found):
        raise ValueError(f"{source} is in our own format already; nothing to convert")
    state = found.renamed("checkpoint")
    _write(state, destination, _settings(found, state), NOT_KEPT)


def describe(source: str | Path, use: Use | None = None) -> dict[str, Any]:
    """What is in a file of weights, as JSON values; None where it does not say.

    `format`: "own", "published" or, for CLIP's weights to start from, "clip". ValueError, which
    names them, for weights that this program cannot use, or not for `use`.
    """
    found = look_at(fetch(source))
    shown: dict[str, Any] = {"path": str(source), "holds": found.layout.name}
    state = found.renamed(use or found.layout.use or "checkpoint")
    if found.layout.use == "clip":
        shown |= {"format": "clip", "use": f"--set train.clip_weights={source}"}
    elif _is_own(found):
        shown |= {"format": "own", **_kept(found)}
    else:
        config = _settings(found, state)
        shown |= {"format": "published", "model": config.model_dump(mode="json"), **NOT_KEPT}
        said = {name: found.content.get(name) for name in ("epoch", "max_accuracy")}
        shown |= {name: x if isinstance(x, int | float) else None for name, x in said.items()}
    return shown | {
        "parameters": sum(x.numel() for x in state.values()),
        "token_embedding": any(name.endswith("token_embedding.weight") for name in state),
        "dtypes": sorted({str(x.dtype).removeprefix("torch.") for x in state.values()}),
        "left_out": list(found.others),
    }


def _settings(found: WeightsFile, state: Mapping[str, Tensor]) -> ModelConfig:
    """The settings of a published checkpoint; ValueError, which names it, if it has no possible
    ones."""
    try:
        method, settings = found.layout.method or "tc_clip", found.content.get("config")
        return published_config(method, state, settings)
    except ValueError as error:
        raise ValueError(f"{found.path} is no checkpoint that can be read: {error}") from error


def describe_checkpoint(source: str | Path) -> dict[str, Any]:
    """As `describe`, with a model: ValueError if it is no checkpoint, FileNotFoundError for one of
    our own without its json."""
    shown = describe(source, use="checkpoint")
    if shown["model"] is None:
        raise FileNotFoundError(shown["missing"])
    return shown


def _kept(found: WeightsFile) -> dict[str, Any]:
    """What the json beside an own checkpoint says; which file is missing if there is none.

    ValueError if its sizes are not those of the tensors: a model is made by them.
    """
    names = ("model", "class_names", "start", "test_view", "precision")
    try:
        header = read_header(found.path)
    except FileNotFoundError as error:
        return {"model": None, "missing": str(error)}
    try:
        said = methods.settings(header["model"]).sizes
        wrong = [name for name, x in geometry_of(found.state, said) if x != getattr(said, name)]
    except ValueError as error:
        text = str(error)
        if isinstance(error, ValidationError):
            text = "; ".join(map(mistake, error.errors()))
        raise ValueError(f"{found.path} and the json beside it make no model: {text}") from error
    if set(wrong) - {"image_size"}:  # rounded down to whole patches
        raise ValueError(
            f"{found.path} holds a model of other sizes than the json beside it says "
            f"({', '.join(wrong)}); restore the pair"
        )
    return {name: header.get(name) for name in names}


def fetch(source: str | Path) -> Path:
    """The local path of `source`, downloaded first if it is hf://owner/repository/file, with the
    json beside it if there is one. Without a file: `FILE_ON_HUB`, as `export` names it."""
    text = str(source)
    if text.startswith(HUB):
        owner, _, rest = text.removeprefix(HUB).partition("/")
        repository, _, name = rest.partition("/")
        if not (owner and repository):
            raise ValueError(f"{text!r} is not hf://owner/repository or hf://owner/repository/file")
        return _download(f"{owner}/{repository}", name or FILE_ON_HUB)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    return path


def _download(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    path = Path(hf_hub_download(repository, name))
    if path.suffix == ".safetensors":
        with suppress(EntryNotFoundError):  # no checkpoint of ours
            hf_hub_download(repository, str(Path(name).with_suffix(".json")))
    return path


def read_header(path: Path) -> dict[str, Any]:
    """The json beside an own checkpoint: format, version, model, class_names, start and, of
    newer ones, test_view and precision."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise FileNotFoundError(
            f"no {beside.name} beside {path}, which says the model's settings; keep the two files "
            "together, under one name"
        )
    if beside.stat().st_size > MAX_JSON:
        raise ValueError(f"{beside} has {beside.stat().st_size:,} bytes: it describes no model")
    try:
        header: Any = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{beside} is damaged ({error}); restore it") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{beside} does not describe a checkpoint of this project")
    if not isinstance(header.get("model"), dict) or not isinstance(header.get("version"), int):
        raise ValueError(f"{beside} is damaged (it says no model or version); restore it")
    if header["version"] > VERSION:
        raise ValueError(
            f"{beside} has version {header['version']}, newer than this program's {VERSION}; "
            "update the program"
        )
    return header


def _is_own(found: WeightsFile) -> bool:
    """Whether it is a checkpoint in our own format, its json there or lost."""
    return found.layout.name == OWN and is_safetensors(found.path)


def _check(present: Mapping[str, Tensor], tuned: Mapping[str, Tensor], where: str) -> None:
    problem = mismatch(present.keys(), tuned.keys() | {TOKEN_EMBEDDING})
    if problem:
        raise ValueError(
            f"{where} does not fit the model; {problem}; create the model with the settings it "
            "was trained with"
        )
    misshapen = [
        f"{name} {tuple(x.shape)} instead of {tuple(present[name].shape)}"
        for name, x in tuned.items()
        if x.shape != present[name].shape
    ]
    if misshapen:
        raise ValueError(
            f"{where} is of another geometry than the model: {listed(misshapen)}; create the model "
            "with the backbone and settings it was trained with"
        )


def _check_activation(config: ModelConfig, found: WeightsFile) -> None:
    """ValueError if the checkpoint says that it was trained with another activation."""
    if not _is_own(found) or not found.path.with_suffix(".json").is_file():
        return
    trained = methods.settings(_kept(found)["model"]).activation
    if trained != config.activation:
        raise ValueError(
            f"{found.path} was trained with model.activation={trained}, and the model has "
            f"{config.activation}; give --set model.activation={trained}"
        )


def _compare_start_token(table: Tensor, given: Mapping[str, Tensor], where: str) -> None:
    """Published checkpoints hold no token embedding, but their class buffers begin with the
    start token's: warn if the model's differs, which it does without OpenAI's weights."""
    for name in CLASS_BUFFERS:
        buffer = given.get(name)
        if buffer is not None and buffer.ndim == 3 and buffer.numel() and "suffix" not in name:
            theirs = buffer[0, 0].to(table)
            ours = table[tokenizer().sot_token_id]
            if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-3):
                logger.warning(
                    "%s was trained with another token embedding than the model's; create the "
                    "model with clip_weights='openai' first",
                    where,
                )


def _write(
    state: Mapping[str, Tensor], path: str | Path, config: ModelConfig, about: Mapping[str, Any]
) -> None:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a checkpoint's name ends in .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: x.detach().cpu().contiguous() for name, x in state.items()}
    kept = {"model": config.model_dump(mode="json"), **about}
    header = {"format": FORMAT, "version": VERSION, **kept}
    text = json.dumps(header, indent=1, ensure_ascii=False) + "\n"

    def write_weights(file: Path) -> None:
        save_file(tensors, file)
        shutil.copymode(path.with_suffix(".json"), file)  # safetensors lets the owner alone read it

    # The weights last: a file of weights always has its json.
    _replace(path.with_suffix(".json"), lambda file: file.write_text(text, encoding="utf-8"))
    _replace(path, write_weights)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path` that replaces it at the end, or is removed on an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
