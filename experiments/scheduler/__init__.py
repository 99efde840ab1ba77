"""Sweeps: computes the runs of a grid that have no result yet.

In: the specs of runs, an output folder, where the data are, and how to execute. Out: finished run
folders, and a `Summary` of what is not finished. Called by the command line.

Read `sweep` first, then `loop`, which starts runs and decides what follows when one ends.
`executor` says what an executor is and holds the one for this process, `ray_train` the one for Ray,
`ray_tune` the one for searches. Loop and sweep use `circuit_breaker`, `signals` and `summary`.
"""
