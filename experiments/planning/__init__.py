"""What can be known of runs before any of them starts: whether they could be computed to the end.

In: the specs of a plan, how they execute, where data and weight files are, the output folder. Out:
`Findings`: problems, which `--dry-run` shows and a sweep refuses, and notes. Nothing is written.
Used by cli, and by the worker, which compares its lists with those its run began with.

Read `problems` (all checks of a plan), then what it asks: `settings` (sizes, batches), `weights`
(files to start from), `lists` (class names, changed lists) and `videos` (the last `data check`).
Beside them `paper` (all protocols as one plan, `--budget`) and `chosen` (`--only`) make plans.
"""
