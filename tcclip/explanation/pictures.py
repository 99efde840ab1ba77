"""The pictures of an explanation, drawn with Pillow.

A tile is one frame, T of them in a row are a strip. Shape legend: T frames, P = G * G patches a
frame, S pixels of a frame's side, Z pixels of a tile's.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tcclip.explanation.attention import LayerView
from tcclip.explanation.explanation import Explanation

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

#: Okabe and Ito's colours, told apart with any colour vision, and some between them.
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (150, 220, 140), (170, 130, 255), (255, 170, 170), (120, 230, 230),
    (190, 150, 90),
)  # fmt: skip
#: About how wide a tile of a strip is, and one of the animation.
TILE, MOVING_TILE = 140, 280
GAP, MARGIN, FONT_SIZE, LINE = 4, 16, 18, 28
DIM = (70, 70, 70)
FRAME_MS = 300
#: How much is left of the brightness of patches that were not chosen.
DARK = 0.35


def tiles_of(explanation: Explanation, about: int) -> Pixels:
    """The frames (T, Z, Z, 3), enlarged or reduced so that all patches are equally large. Of sides
    that are no multiple of a patch the model does not see the rest, and nor do they show it."""
    sizes = explanation.config.sizes
    grid = sizes.image_size // sizes.patch_size
    side, seen = grid * max(1, round(about / grid)), grid * sizes.patch_size
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR))
            for frame in explanation.frames[:, :seen, :seen]
        ]
    )


def heat_tiles(tiles: Pixels, heat: Floats, scale: float) -> Pixels:
    """Attention (T, P) as colours over the grey frames; each patch has one colour."""
    strength = np.clip(_on_tiles(heat, tiles) / scale, 0, 1)[..., None]
    colours = mpl.colormaps["inferno"](strength[..., 0])[..., :3] * 255
    cover = 0.35 + 0.5 * strength
    return _pixels((1 - cover) * 0.9 * _grey(tiles) + cover * colours)


def seed_tiles(tiles: Pixels, seeds: NDArray[np.int64], patches: int) -> Pixels:
    """The chosen patches as they are, the others dark and grey."""
    chosen = np.zeros((len(tiles), patches), bool)
    np.put_along_axis(chosen, seeds, True, axis=1)
    return _pixels(np.where(_on_tiles(chosen, tiles)[..., None], tiles, DARK * _grey(tiles)))


def group_tiles(tiles: Pixels, groups: NDArray[np.int64], biggest: Sequence[int]) -> Pixels:
    """The patches of the `biggest` groups in the colours of these, the other chosen patches grey,
    what was not chosen dark."""
    owner = _on_tiles(groups, tiles)
    # Of every token how much of the grey it leaves and what it adds; the last row is of no token.
    count = int(groups.max()) + 2
    left, added = np.full((count, 1), 0.75), np.full((count, 3), 25.0)
    left[-1], added[-1] = DARK, 0
    for colour, group in zip(COLOURS, biggest, strict=False):
        left[group], added[group] = 0.45, 0.6 * np.array(colour)
    return _pixels(left[owner] * _grey(tiles) + added[owner])


def _on_tiles(values: NDArray[Any], tiles: Pixels) -> NDArray[Any]:
    """(T, P) -> (T, Z, Z)."""
    grid = round(values.shape[1] ** 0.5)
    square = values.reshape(len(values), grid, grid)
    each = tiles.shape[1] // grid
    return square.repeat(each, axis=1).repeat(each, axis=2)


def _grey(tiles: Pixels) -> Floats:
    """(T, Z, Z, 3) without its colours, (T, Z, Z, 1)."""
    grey: Floats = tiles.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return grey


def _pixels(values: Floats) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)


def strip(tiles: Pixels) -> Image.Image:
    """Tiles in a row."""
    T, side = tiles.shape[:2]
    row = np.full((side, T * (side + GAP) - GAP, 3), 255, np.uint8)
    for t, tile in enumerate(tiles):
        row[:, t * (side + GAP) : t * (side + GAP) + side] = tile
    return Image.fromarray(row)


#: Colours, and what they stand for.
Legend = list[tuple[tuple[int, int, int], str]]


@dataclass(frozen=True)
class Row:
    """A strip that is about to be drawn: `name`, what is to be said of it, its tiles."""

    name: str
    about: str
    tiles: Pixels

    @property
    def caption(self) -> str:
        return f"{self.name}: {self.about}"


@dataclass(frozen=True)
class LayerPicture:
    """The rows of a layer; the legend says which context tokens the colours stand for."""

    rows: list[Row]
    legend: Legend


def layer_picture(view: LayerView, tiles: Pixels, groups: int) -> LayerPicture:
    """The frames, the attention and, where there are any, the chosen and the merged patches."""
    rows = [Row("Frames", "what the model sees", tiles), heat_row(view, tiles)]
    if view.seeds is None or view.groups is None:
        return LayerPicture(rows, [])
    biggest = view.biggest_groups(groups)
    tokens = len(np.unique(view.groups[view.groups >= 0]))
    chosen = f"the {view.seeds.shape[1]} of most attention in each frame"
    rows.append(Row("Seed patches", chosen, seed_tiles(tiles, view.seeds, view.heat.shape[1])))
    merged = f"the {len(biggest)} biggest of {tokens}, each in one colour through all frames"
    rows.append(Row("Context tokens", merged, group_tiles(tiles, view.groups, biggest)))
    members = [view.groups == group for group in biggest]
    counts = [(int(one.sum()), int(one.any(1).sum())) for one in members]
    said = [
        f"{patches} patch{'es' * (patches > 1)} in {frames} frame{'s' * (frames > 1)}"
        for patches, frames in counts
    ]
    return LayerPicture(rows, list(zip(COLOURS, said, strict=False)))


def heat_row(
    view: LayerView, tiles: Pixels, name: str = "CLS attention", said: str = "to a patch"
) -> Row:
    """The attention to each patch, on the layer's own scale: a few outliers would leave the rest
    black, so the brightest colour begins below them."""
    heat = view.heat
    scale = max(float(np.quantile(heat, 0.995)), 1e-9)
    about = f"{said}, dark 0 %, yellow {100 * scale:.1f} % or more, mean {100 * heat.mean():.2f} %"
    return Row(name, about, heat_tiles(tiles, heat, scale))


def sheet(title: str, picture: LayerPicture) -> bytes:
    """Captioned strips below one another, and the legend, as a PNG file."""
    strips = [strip(row.tiles) for row in picture.rows]
    texts = [title, *(row.caption for row in picture.rows)]
    room = max([one.width for one in strips] + [int(font().getlength(text)) for text in texts])
    lines = _broken(picture.legend, room)
    height = LINE * (1 + len(strips) + len(lines)) + sum(one.height + GAP for one in strips)
    page = Image.new("RGB", (room + 2 * MARGIN, height + 2 * MARGIN), "white")
    draw, y = ImageDraw.Draw(page), MARGIN
    draw.text((MARGIN, y), title, "black", font())
    y += LINE
    for row, one in zip(picture.rows, strips, strict=True):
        draw.text((MARGIN, y + 5), row.caption, DIM, font())
        page.paste(one, (MARGIN, y + LINE))
        y += LINE + one.height + GAP
    for line in lines:
        x = MARGIN
        for colour, text in line:
            draw.rectangle((x, y + 8, x + 14, y + 22), colour)
            draw.text((x + 20, y + 5), text, DIM, font())
            x += _entry_width(text)
        y += LINE
    return encoded(page, "PNG", compress_level=3)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    """The file that a picture is in this format."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def _broken(legend: Legend, room: int) -> list[Legend]:
    """The legend in lines that are not wider than `room`, if an entry is not."""
    lines: list[Legend] = []
    used = room
    for colour, text in legend:
        if used + _entry_width(text) > room:
            lines.append([])
            used = 0
        lines[-1].append((colour, text))
        used += _entry_width(text)
    return lines


def _entry_width(text: str) -> int:
    return 20 + int(font().getlength(text)) + 24


def animation(picture: LayerPicture) -> bytes:
    """A GIF that plays the frames: the rows of a layer as panels, two beside each other."""
    pages = []
    for t in range(len(picture.rows[0].tiles)):
        panels = [_panel(row.name, row.tiles[t]) for row in picture.rows]
        width, height = panels[0].size
        page = Image.new("RGB", (2 * width + GAP, -(-len(panels) // 2) * height), "white")
        for number, panel in enumerate(panels):
            page.paste(panel, (number % 2 * (width + GAP), number // 2 * height))
        pages.append(page)
    # One palette for all: what does not move does not flicker.
    sample = np.concatenate([np.asarray(page)[::3, ::3] for page in pages])
    palette = Image.fromarray(sample).quantize(256)
    first, *others = (page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages)
    moving = {"save_all": True, "append_images": others, "duration": FRAME_MS, "loop": 0}
    return encoded(first, "GIF", **moving)


def _panel(name: str, tile: Pixels) -> Image.Image:
    side = len(tile)
    panel = Image.new("RGB", (side, side + LINE), "white")
    ImageDraw.Draw(panel).text((2, 3), name, "black", font())
    panel.paste(Image.fromarray(tile), (0, LINE))
    return panel


@cache
def font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), FONT_SIZE)
