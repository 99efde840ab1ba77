"""Files of weights that runs start from: whether they can be read, and fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from experiments.grid.spec import RunSpec
from tcclip import methods
from tcclip.config import Geometry, ModelConfig


def starting_sizes(spec: RunSpec, files: Mapping[str, Path]) -> Geometry:
    """The sizes of the run's model: a file of CLIP's weights brings its own.

    ValueError naming a file that cannot be read or does not fit the settings. torch is only
    imported where there is a file.
    """
    model = spec.model
    if spec.clip_content is not None:
        sizes = _sizes_of(spec.clip_content, files[spec.clip_content], model)
        model = methods.resolved(model.model_copy(update={"geometry": sizes}))
    if spec.checkpoint is not None:
        _check_fits(spec.checkpoint, files[spec.checkpoint], methods.resolved(model))
    return model.sizes


@cache
def _sizes_of(content: str, path: Path, model: ModelConfig) -> Geometry:
    """Once for each content, its sha256."""
    from tcclip.weights.clip_weights import checked_clip

    return checked_clip(path, model)[1]


@cache
def _check_fits(content: str, path: Path, model: ModelConfig) -> None:
    from tcclip.model.checkpoints import check_fits

    check_fits(model, path)
