"""Why a model says what it says of a video: attention, chosen and merged patches, prompting.

In: a video and a `Predictor`. Out: an `Explanation` with the numbers; `write` makes pictures, an
animation and a page of it. Callers: anybody, as `tcclip.explain`; `tcclip explain`. The model knows
nothing of it: what is not among its intermediates is noted by hooks while it runs.

Read `explanation` (the whole), `attention` and `prompting` (the numbers), then `pictures`, `chart`,
`page` (how they are drawn) and `files`.
"""

from tcclip.explanation.explanation import Explanation, explain
from tcclip.explanation.files import write

__all__ = ["Explanation", "explain", "write"]
