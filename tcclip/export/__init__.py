"""A model as a folder that works without this package, for the Hugging Face Hub.

In: a `Model`, how its videos are read, what is known of its training and numbers (`ExportedModel`).
Out: a folder with the weights, the settings, a model card and one Python file that loads and runs
the model (`write_folder`), other formats of the model in it, and its upload (`push`). For
`experiments.inference`, or anybody.

Read `folder` (what is written), `card`, `bundle` (the Python file, made from this package's own
sources: there is no second implementation), `standalone` with `plain_settings` (the end of that
file, and what stands in it for pydantic), `graphs` (torch.export, TorchScript, ONNX), `push`.
"""
