"""Weights that come from outside: CLIP's starting weights and checkpoints, own and published.

In: "openai", "random", a file or a state dict. Out: whose weights a file holds (`layouts`), a state
dict on the CPU with OpenAI's names (`clip_weights`), or a checkpoint's tensors under our names and
its settings (`published_config`). For `tcclip.model`, and for planning, which asks whether a file
can be used; a file's pickled code is never run, and its sizes are compared with the file's own
before memory is taken.

Read `parameter_names` (one parameter, several names), `layouts` (whose names are whose),
`clip_weights`, then how files are read: `weight_files`, `torch_files`, `safe_unpickle`, `stubs`;
`published_config`.
"""
