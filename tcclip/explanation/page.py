"""An explanation as one HTML page that needs nothing else: its pictures are in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path

from tcclip.explanation.chart import shown_classes
from tcclip.explanation.explanation import Explanation
from tcclip.explanation.pictures import LayerPicture, encoded, strip
from tcclip.explanation.prompting import softmax

_STYLE = Path(__file__).with_name("page.css")


def page(
    explanation: Explanation,
    layers: Mapping[int, LayerPicture],
    moving: bytes,
    kinds: LayerPicture | None,
) -> str:
    """`layers`: pictures by layer, counted from 1; `moving`: a GIF of the last of them; `kinds`:
    several models' attention side by side."""
    title = escape(f"What the model saw in {Path(explanation.video).name}")
    body = [
        f"<h1>{title}</h1>", _said(explanation),
        f"<h2>In motion: layer {max(layers)}</h2>", _image(moving, "gif", "the frames in motion"),
        "<h2>Classes</h2>", *_classes(explanation),
        *_side_by_side(kinds),
        "<h2>Layer by layer</h2>", _shares(explanation), *_layers(layers), _reading(explanation),
    ]  # fmt: skip
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>",
            "</head>\n<body>", *body, "</body>\n</html>\n",
        ]
    )  # fmt: skip


def _said(explanation: Explanation) -> str:
    scores = explanation.scores
    best = scores.best(1)[0]
    frames = f"{len(explanation.frames)} frames of {explanation.frames.shape[1]} pixels a side"
    return (
        f"<p>It says <b>{escape(scores.names[best])}</b>, with a probability of "
        f"{scores.probabilities[best]:.1%} among {len(scores.names)} classes.</p>"
        f'<p class="dim">{escape(explanation.title)}; {frames}. Weights: '
        f"<code>{escape(explanation.source)}</code>. Video: "
        f"<code>{escape(explanation.video)}</code>.</p>"
    )


# ---- Classes ----


def _classes(explanation: Explanation) -> list[str]:
    scores = explanation.scores
    gains, probabilities = scores.gains, scores.probabilities
    shown = shown_classes(scores)
    most = probabilities.max()
    if scores.unprompted is None or gains is None:
        head = '<th class="label">class</th><th>probability</th>'
        rows = [_label(scores.names[one]) + _bar(probabilities[one], most, "") for one in shown]
        about = (
            "This model has no video-conditional prompting: its texts are the same for any video."
        )
    else:
        plain = softmax(scores.unprompted)
        most = max(most, plain[shown].max())
        head = '<th class="label">class</th><th>with prompting</th><th>without</th><th>gain</th>'
        rows = [
            _label(scores.names[one])
            + _bar(probabilities[one], most, "") + _bar(plain[one], most, "plain")
            + f'<td class="{"up" if gains[one] >= 0 else "down"}">{100 * gains[one]:+.1f}</td>'
            for one in shown
        ]  # fmt: skip
        up, down = int(gains.argmax()), int(gains.argmin())
        about = (
            "Video-conditional prompting lets the prompt's learned words attend to this video; "
            "without it they stay as they were learned. "
            f"Most is gained by <b>{escape(scores.names[up])}</b> ({100 * gains[up]:+.1f} points), "
            f"most lost by <b>{escape(scores.names[down])}</b> ({100 * gains[down]:+.1f})."
        )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    rest = len(scores.names) - len(shown)
    more = f'<p class="dim">{rest} more classes are not shown.</p>' if rest else ""
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return [f"<p>{about}</p>", f'<div class="wide classes">{table}</div>', more]


def _label(text: str) -> str:
    return f'<td class="label">{escape(text)}</td>'


def _bar(probability: float, most: float, kind: str) -> str:
    """`most`: the probability of the longest bar."""
    return (
        f'<td class="probability">{100 * probability:.1f} %'
        f'<div class="bar {kind}" style="width:{100 * probability / most:.1f}%"></div></td>'
    )


# ---- Layers ----


def _shares(explanation: Explanation) -> str:
    shares = [view.shares() for view in explanation.layers]
    names = [name for name in shares[0] if any(one[name] > 1e-6 for one in shares)]
    head = '<th class="label">layer</th>' + "".join(f"<th>{name}</th>" for name in names)
    rows = "\n".join(
        f'<tr><td class="label">{layer}</td>'
        + "".join(f"<td>{100 * one[name]:.1f} %</td>" for name in names)
        + "</tr>"
        for layer, one in enumerate(shares, start=1)
    )
    return (
        "<p>Where the attention of a frame's CLS token goes, mean over frames and heads:</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _layers(layers: Mapping[int, LayerPicture]) -> list[str]:
    last = max(layers)
    return [
        f"<details{' open' * (layer == last)}><summary>Layer {layer}</summary>"
        f"{_strips(picture)}</details>"
        for layer, picture in layers.items()
    ]


def _strips(picture: LayerPicture) -> str:
    rows = "".join(
        f'<p class="about"><b>{escape(row.name)}</b>: {escape(row.about)}</p>'
        + _image(encoded(strip(row.tiles), "WEBP", quality=85), "webp", row.name, "strip")
        for row in picture.rows
    )
    items = "".join(
        f'<li><i style="background:rgb{colour}"></i>{escape(text)}</li>'
        for colour, text in picture.legend
    )
    return f'<div class="wide">{rows}</div>' + (f'<ul class="legend">{items}</ul>' if items else "")


def _side_by_side(kinds: LayerPicture | None) -> list[str]:
    if kinds is None:
        return []
    about = "The last layer of each model; each has a scale of its own."
    return ["<h2>Kinds of attention side by side</h2>", f"<p>{about}</p>", _strips(kinds)]


def _reading(explanation: Explanation) -> str:
    lines = [
        "Attention is that of the CLS tokens, whose mean is the video's feature: softmax weights, "
        "mean over heads. What other frames' CLS tokens give to a patch is added.",
        "Attention says where a layer looks, not what decides the class.",
    ]
    if explanation.config.uses_context:
        lines += [
            "Seed patches are merged through all frames into context tokens, in every layer anew: "
            "the same colour in two layers means nothing. All frames of the next layer attend to "
            "them, and the prompt does. Grey: seeds of smaller tokens.",
        ]
    else:
        lines += [
            f"This model ({explanation.kind}) chooses no seed patches and has no context tokens, "
            "so there are none to show."
        ]
    return "<h2>How to read this</h2>" + "".join(f"<p>{escape(line)}</p>" for line in lines)


# ---- Pictures ----


def _image(data: bytes, kind: str, text: str, style: str = "") -> str:
    source = f"data:image/{kind};base64,{b64encode(data).decode('ascii')}"
    return f'<img class="{style}" alt="{escape(text)}" src="{source}">'
