"""Predictions as one self-contained page: the classes of each video, a timeline as a strip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from experiments.inference.answers.timeline import NONE_OF_THESE, clock

if TYPE_CHECKING:
    from tcclip.predict import Prediction

#: Of the classes on a page, in the order they come first; more begin again, paler.
COLOURS = (
    "#2f6fb5", "#d9822b", "#3f9d5a", "#b5403a", "#7a5bb0", "#8a6a4f", "#c65d9e", "#5f6b76",
    "#a59b1f", "#1f9aa8",
)  # fmt: skip
_STYLE = """
:root { color-scheme: light; --line: #d9dde3; --dim: #5c6673; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
       margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
.dim { color: var(--dim); font-size: .85rem; margin: 0; }
.problem { color: #b3261e; } .none { color: #8a5300; font-weight: 600; }
.bars { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr 4rem; gap: .2rem .75rem;
        align-items: center; font-variant-numeric: tabular-nums; }
.bars span { overflow-wrap: anywhere; }
.bar { background: #eef1f4; border-radius: .2rem; }
.bar i { display: block; height: .9rem; border-radius: .2rem; min-width: 1px; }
.bars b { font-weight: 400; text-align: right; }
.strip { position: relative; height: 2.2rem; background: #eef1f4; border-radius: .3rem;
         overflow: hidden; margin-top: .75rem; }
.strip i { position: absolute; top: 0; bottom: 0; border-right: 1px solid #fff; }
.ends { display: flex; justify-content: space-between; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .4rem 0 0; padding: 0;
          list-style: none; font-size: .85rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem;
            margin-right: .35rem; }
@media (max-width: 40rem) { .bars { grid-template-columns: 1fr 4rem; }
                            .bars span { grid-column: 1 / -1; line-height: 1.2; } }
"""


def render(predictions: Sequence[Prediction], title: str) -> str:
    """The page, HTML; it needs no other file."""
    broken = sum(one.error is not None for one in predictions)
    count = f"{len(predictions)} video" + ("s" if len(predictions) != 1 else "")
    count += f", {broken} of them unreadable" if broken else ""
    colours = _Colours()
    parts = [part for one in predictions for part in _video(one, colours)]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Predictions</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f'<h1>Predictions</h1>\n<p class="dim">{escape(title)}; {count}</p>',
            *parts,
            "</body>\n</html>",
        ]
    )


class _Colours(dict[str, str]):
    """A class -> its colour, everywhere on the page."""

    def __missing__(self, name: str) -> str:
        colour = COLOURS[len(self) % len(COLOURS)]
        self[name] = colour if len(self) < len(COLOURS) else colour + "99"
        return self[name]


def _video(one: Prediction, colours: _Colours) -> Iterable[str]:
    yield f"<h2>{escape(one.video)}</h2>"
    if one.error is not None:
        yield f'<p class="problem">cannot be read: {escape(one.error)}</p>'
        return
    if one.rejected:
        yield '<p class="none">none of these</p>'
    bars = (
        f'<span>{escape(name)}</span><div class="bar"><i style="width:{100 * probability:.2f}%;'
        f'background:{colours[name]}"></i></div><b>{100 * probability:.1f} %</b>'
        for name, probability in one.top
    )
    yield f'<div class="bars">{"".join(bars)}</div>'
    if one.windows:
        yield from _timeline(one, colours)


def _timeline(one: Prediction, colours: _Colours) -> Iterable[str]:
    """The best class of each window, from its start to the next one's."""
    length = max(window.end for window in one.windows)
    starts = [window.start for window in one.windows]
    shown: dict[str, str] = {}
    pieces = []
    for window, until in zip(one.windows, [*starts[1:], length], strict=True):
        name, probability = window.top[0]
        name = NONE_OF_THESE if window.rejected else name
        shown[name] = "#c3cad2" if window.rejected else colours[name]
        hint = f"{clock(window.start)}-{clock(window.end)} {name} {100 * probability:.0f} %"
        left, width = 100 * window.start / length, 100 * (until - window.start) / length
        pieces.append(
            f'<i style="left:{left:.3f}%;width:{width:.3f}%;background:{shown[name]};'
            f'opacity:{0.35 + 0.65 * probability:.2f}" title="{escape(hint)}"></i>'
        )
    yield f'<div class="strip">{"".join(pieces)}</div>'
    yield f'<p class="dim ends"><span>{clock(0)}</span><span>{clock(length)}</span></p>'
    legend = (
        f'<li><i style="background:{colour}"></i>{escape(name)}</li>'
        for name, colour in shown.items()
    )
    yield f'<ul class="legend">{"".join(legend)}</ul>'
