"""One's own videos: a checkpoint as a `Predictor`, and what it says of files of any length.

In: a checkpoint (a path, a folder, hf://...) and videos. Out: `Prediction`s, with the same scores
as an evaluation gives, bit for bit: the parts are the evaluation's own. Callers: anybody, as
`tcclip.load`; the commands in `experiments.inference`; `tcclip.explain` and `tcclip.export`, which
take the predictor's model, settings and `clip`. Nothing is written.

Read `loading` (from a checkpoint to a predictor), `predictor` (videos to predictions), `question`
(what is asked), `reading` with `windows` (what is looked at), `prediction` (what comes out),
`calibration`.
"""

from tcclip.predict.loading import load
from tcclip.predict.prediction import Prediction
from tcclip.predict.predictor import Predictor
from tcclip.predict.reading import Source

__all__ = ["Prediction", "Predictor", "Source", "load"]
