"""The files of an explanation: drawn in memory, written all or none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tcclip.explanation import pictures
from tcclip.explanation.chart import class_chart
from tcclip.explanation.explanation import Explanation
from tcclip.explanation.page import page

_OURS = re.compile(r"(layer_\d+|classes|side_by_side)\.png|animation\.gif|index\.html")


def check_folder(folder: Path) -> None:
    """ValueError unless `folder` is new, empty or an earlier explanation."""
    if folder.is_dir():
        others = sorted(one.name for one in folder.iterdir() if not _OURS.fullmatch(one.name))
        if others:
            raise ValueError(f"{folder} holds other files ({others[0]}); give a new folder")
    elif folder.exists():
        raise ValueError(f"{folder} is a file; give a new folder")


def write(
    explanation: Explanation,
    folder: str | Path,
    *,
    beside: Sequence[Explanation] = (),
    groups: int = 8,
) -> list[Path]:
    """Pictures (PNG), an animation (GIF) and a page (index.html) that shows all of them.

    `beside`: explanations of the same video by other models, whose attention is shown side by
    side. `groups`: context tokens that get a colour, the biggest ones, 0 to 12. Returns the files.
    ValueError if the folder holds anything but an earlier explanation, which is replaced; nothing
    is written unless everything could be drawn.
    """
    if not 0 <= groups <= len(pictures.COLOURS):
        raise ValueError(f"groups {groups}: there are colours for 0 to {len(pictures.COLOURS)}")
    folder = Path(folder).absolute()
    check_folder(folder)
    files = draw(explanation, beside, groups)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        new.mkdir(parents=True)
        for name, data in files.items():
            (new / name).write_bytes(data)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        for one in (new, old):
            shutil.rmtree(one, ignore_errors=True)
    return [folder / name for name in files]


def draw(explanation: Explanation, beside: Sequence[Explanation], groups: int) -> dict[str, bytes]:
    """File name -> content."""
    tiles = pictures.tiles_of(explanation, pictures.TILE)
    large = pictures.tiles_of(explanation, pictures.MOVING_TILE)
    layers = {
        number: pictures.layer_picture(view, tiles, groups)
        for number, view in enumerate(explanation.layers, start=1)
    }
    last = pictures.layer_picture(explanation.layers[-1], large, groups)
    moving = pictures.animation(last)
    name = Path(explanation.video).name
    files = {
        f"layer_{number:02d}.png": pictures.sheet(f"{name}, layer {number}", picture)
        for number, picture in layers.items()
    }
    kinds = _side_by_side([explanation, *beside]) if beside else None
    if kinds is not None:
        files["side_by_side.png"] = pictures.sheet(f"{name}, last layers", kinds)
    files["classes.png"] = class_chart(explanation.scores)
    files["animation.gif"] = moving
    files["index.html"] = page(explanation, layers, moving, kinds).encode()
    return files


def _side_by_side(several: Sequence[Explanation]) -> pictures.LayerPicture:
    """The attention of each one's last layer."""
    tiles = [pictures.tiles_of(one, pictures.TILE) for one in several]
    rows = [pictures.Row("Frames", "what the first model sees", tiles[0])]
    for one, own in zip(several, tiles, strict=True):
        best = one.scores.best(1)[0]
        said = f"says {one.scores.names[best]}, {100 * one.scores.probabilities[best]:.0f} %"
        shares = one.layers[-1].shares().items()
        split = ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares if share > 1e-3)
        rows.append(
            pictures.heat_row(one.layers[-1], own, one.title, f"{said}; {split}; to a patch")
        )
    return pictures.LayerPicture(rows, [])
