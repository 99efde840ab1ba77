"""Weights that come from outside: CLIP's starting weights and the published checkpoints.

In: "openai", "random", a file or a state dict. Out: a state dict on the CPU with OpenAI's names
(`clip_weights`), or the published checkpoint's tensors under our names and its settings
(`published_config`). For `tcclip.model` alone; a file's pickled code is never run.

Read `parameter_names` (one parameter, three names), `clip_weights`, then `safe_unpickle` and
`published_config`.
"""
