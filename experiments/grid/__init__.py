"""Which runs there are: from the options of a command, or a grid file, to specs of runs.

In: `GridOptions` and `ExecutionOptions`. Out: a `RunPlan`, whose `RunSpec`s have every setting in
place and a run id that is the hash of all that changes the numbers; and an `Execution`.
All other rooms of experiments may import this one; it reads YAML and weights, and writes nothing.

Read: options (the command line), request (options to runs), plan (a grid to specs), spec (the run
id); then what they use: overrides (`--set`), search_space (`--search`), grid_file (YAML),
weights_file (weights known by their sha256).
"""
