"""From a checkpoint to a `Predictor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tcclip import methods
from tcclip.config import AugmentConfig, Precision
from tcclip.data.annotations import sha256_of
from tcclip.distributed import current_ranks
from tcclip.model import build_model, load_checkpoint
from tcclip.model.checkpoints import HUB, describe_checkpoint, fetch, test_view
from tcclip.predict.calibration import SUFFIX, Calibration
from tcclip.predict.predictor import Predictor
from tcclip.predict.question import distinct

#: Of what a checkpoint does not record: as the published checkpoints were trained and tested.
SEED, PRECISION, CLIP_WEIGHTS = 1024, "bf16", "openai"
_SHA256 = "sha256:"


def load(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision | None = None,
    ensemble: float | None = None,
    clip_weights: str | Path | None = None,
) -> Predictor:
    """The model of a checkpoint, ready to predict, as it was tested.

    `source`: a checkpoint of ours or a published one, as a path, as hf://owner/repository/file, or
    as a folder with one checkpoint in it, such as a run's or an exported one. `classes`: names in
    any words; by default those it was trained on, which a published checkpoint does not tell.
    `precision`: by default what it was trained and tested in, as far as it says (else bf16).
    `ensemble`: share of the fine-tuned weights when averaged with the CLIP weights the training
    started from, 0 to 1, published 0.7 (SPEC 5). `clip_weights`: these, where the checkpoint does
    not name them: "openai" (through open_clip), "random" or a file. A published checkpoint needs
    them in any case, for its token embedding.

    FileNotFoundError for a missing file; ValueError for one that is damaged or of another family,
    for class names that are missing, empty, too long or alike, and settings that cannot be used.
    """
    path = checkpoint_file(source)
    about = describe_checkpoint(path)
    config = methods.settings(about["model"])
    names = about["class_names"] if classes is None else distinct(classes)
    if names is None:
        raise ValueError(
            f"{source} does not say what its classes are called; name them (in Python "
            'classes=["..."], on the command line --classes)'
        )
    start = about["start"] or {}
    seed = int(start.get("seed", SEED))
    # CLIP's own weights are needed to ensemble with, and for what a checkpoint leaves out.
    needed = ensemble is not None or not about["token_embedding"]
    weights = _start_weights(start, clip_weights, str(source)) if needed else "random"
    view = test_view(about.get("test_view"), config, AugmentConfig())
    augment = AugmentConfig.model_validate({**AugmentConfig().model_dump(), **view})
    model = build_model(config, names, clip_weights=weights, seed=seed)
    load_checkpoint(model, path, ensemble_weight=ensemble)
    return Predictor(
        model=model.to(current_ranks(device).device).eval().requires_grad_(False),
        augment=augment,
        precision=_precision(precision or about.get("precision") or PRECISION),
        seed=seed,
        source=str(source),
        ensemble=ensemble,
        calibration=_calibration(path, ensemble),
    )


def checkpoint_file(source: str | Path) -> Path:
    """The file of weights of `source`, see `load`; fetched first if it is hf://..."""
    if str(source).startswith(HUB) or not Path(source).is_dir():
        return fetch(source)
    folder = Path(source)
    places = (folder, folder / "checkpoints")
    found = [path for place in places for path in sorted(place.glob("*.safetensors"))]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"{folder}: one checkpoint (NAME.safetensors) is expected in this folder or in "
            f"checkpoints/, and there are {len(found)} ({names}); give the file"
        )
    return found[0]


def _calibration(path: Path, ensemble: float | None) -> Calibration | None:
    """What was measured of these weights; of others, it says nothing of them."""
    found = Calibration.read(path.with_suffix(SUFFIX))
    return found if found is not None and found.ensemble == ensemble else None


def _precision(name: Any) -> Precision:
    if name not in get_args(Precision):
        raise ValueError(f"precision {name!r}; allowed: {', '.join(get_args(Precision))}")
    return cast(Precision, name)


def _start_weights(start: Mapping[str, Any], given: str | Path | None, source: str) -> str | Path:
    """The CLIP weights that the training started from. ValueError if `given` is not these."""
    recorded = start.get("clip_weights")
    if recorded is None:
        return given or CLIP_WEIGHTS
    if not str(recorded).startswith(_SHA256):
        if given not in (None, recorded):
            raise ValueError(f"{source} started from {recorded} weights, not from {given}")
        return str(recorded)
    if given is None:
        raise ValueError(
            f"{source} started from a file of CLIP weights ({recorded}), which is needed for "
            "ensembling; give it (in Python clip_weights=, on the command line --clip-weights)"
        )
    if _SHA256 + sha256_of(Path(given)) != recorded:
        raise ValueError(f"{given} is not the file that {source} started from ({recorded})")
    return given
