"""The folder of an exported model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tcclip import methods
from tcclip.config import AugmentConfig, Precision
from tcclip.export.bundle import bundle
from tcclip.export.card import About, card
from tcclip.export.graphs import GraphFormat, write_graphs
from tcclip.export.standalone import WEIGHTS
from tcclip.model import Model, save_checkpoint

CODE, CARD, REQUIREMENTS = "tcclip_model.py", "README.md", "requirements.txt"
#: What the code imports, and what has read and written the folder here.
_REQUIREMENTS = """\
torch>=2.8
open_clip_torch>=3.0
safetensors>=0.5
numpy>=2
# To read video files:
av>=14
"""
_INTRODUCTION = """\
A model for video action recognition, as one file: `load()` it from the folder this file is in.

Made by `tcclip export` from the sources of tcclip-sweeps; README.md says how to use it. Needs
torch, open_clip (for its tokenizer) and safetensors; PyAV to read video files.
SPDX-License-Identifier: Apache-2.0
"""


def write_folder(
    model: Model,
    folder: Path,
    about: About,
    *,
    augment: AugmentConfig,
    precision: Precision,
    start: Mapping[str, str | int] | None = None,
    format: GraphFormat | None = None,
) -> list[str]:
    """Write a model, in evaluation mode on the CPU, to a new folder; the names of its files.

    `augment`, `precision`, `start`: as `save_checkpoint`. `format`: write its graphs, too.
    The folder is there whole or not at all. ValueError if there is something at that place already,
    or the model cannot be written in that format.
    """
    check_new(folder)
    method = methods.get(model.config.name)
    if method.build is not None:
        raise ValueError(f"{method.title} has a model of its own, which no exported file holds")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        aside.mkdir()
        save_checkpoint(model, aside / WEIGHTS, start=start, augment=augment, precision=precision)
        (aside / CODE).write_text(_code(model), encoding="utf-8")
        (aside / REQUIREMENTS).write_text(_REQUIREMENTS, encoding="utf-8")
        graphs = [] if format is None else write_graphs(model, aside, format)
        text = card(model, about, augment, [path.name for path in graphs])
        (aside / CARD).write_text(text, encoding="utf-8")
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sorted(path.name for path in folder.iterdir())


def _code(model: Model) -> str:
    """The file's text: the usual wording of a class is that of the model's method there."""
    code, usual = bundle("tcclip.export.standalone", _INTRODUCTION), "USUAL = Wording()"
    assert code.count(usual) == 1
    return code.replace(usual, f"USUAL = Wording(**{model.wording.model_dump()!r})")


def check_new(folder: Path) -> None:
    """ValueError unless there is nothing at that place, or an empty folder."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; give another folder, or move it away")
