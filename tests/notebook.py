"""Executes a notebook in this process, without Jupyter.

python -m tests.notebook docs/own_videos.ipynb    # puts the outputs into the file
Run it in a folder that has what the notebook opens.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> None:
    """Execute the code cells of `notebook`, one after the other, and put their outputs in."""
    import matplotlib

    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        cell["execution_count"] = number
        cell["outputs"] = _outputs("".join(cell["source"]), names)


def _outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    from matplotlib import pyplot

    printed = io.StringIO()
    pyplot.show = lambda: None  # what is drawn is taken below
    with redirect_stdout(printed):
        exec(compile(ast.parse(source), "<cell>", "exec"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=80, bbox_inches="tight")
        picture = base64.b64encode(file.getvalue()).decode()
        outputs.append(
            {"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}
        )
    pyplot.close("all")
    return outputs


if __name__ == "__main__":
    path = Path(sys.argv[1])
    content = json.loads(path.read_text())
    run(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
