"""Commands on one's own videos and with a finished model: `tcclip predict`, `calibrate`, ...

In: a checkpoint (a path, hf://..., or the id of a run in `--out`), videos, lists. Out: answers
printed as a table, JSON, CSV or a page; files where `--write` says. Callers: cli.py. What is done
stands in `tcclip.predict` and its neighbours; here are the options and where things are.

Read `commands` (which there are), `checkpoint` (from what was given to a predictor), then the
modules named after the commands; `recorded` is what an export says of a run.
"""
