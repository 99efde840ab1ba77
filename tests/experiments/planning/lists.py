"""Small data sets in text files, for tests that look at lists and need no video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec

#: What the tiny model needs of a protocol's settings.
SETTINGS: dict[str, Any] = {
    "model.backbone": "tiny", "model.num_frames": 4, "model.context_tokens": 4,
    "model.merge_step": 8, "model.text_length": 16, "model.prompt_layers": [2],
    "augment.resize": 36, "augment.crop": 32, "train.clip_weights": "random",
    "train.precision": "fp32", "train.epochs": 2, "train.warmup_epochs": 0,
    "train.global_batch": 4,
}  # fmt: skip


def write_own(folder: Path, name: str = "own", **files: str) -> Path:
    """The YAML file of a data set of two classes; `files`: other content for labels, train, val.

    The videos are empty files, which are there.
    """
    content = {
        "labels": "id,name\n0,push\n1,pull\n",
        "train": "a.mp4 0\nb.mp4 1\nc.mp4 0\nd.mp4 1\n",
        "val": "e.mp4 0\nf.mp4 1\n",
    } | files
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for line in filter(str.strip, (content["train"] + content["val"]).splitlines()):
        (folder / "videos" / line.split()[0]).touch()
    for file, text in content.items():
        (folder / file).with_suffix(".csv" if file == "labels" else ".txt").write_bytes(
            text.encode()
        )
    yaml = folder / "own.yaml"
    yaml.write_text(
        f"name: {name}\nvideos: videos\nlabels: labels.csv\n"
        "splits: {train_4shot: train.txt, val: val.txt}\n"
    )
    return yaml


def own_paths(yaml: Path) -> DataPaths:
    return DataPaths.find(own=[yaml])


def own_specs(yaml: Path, **changes: Any) -> list[RunSpec]:
    """The few-shot runs of a data set of one's own, of the tiny model."""
    grid = Grid("few_shot", datasets=("own",), shots=(4,), settings=SETTINGS)
    return expand(replace(grid, **changes), own_paths(yaml).datasets())


def write_published(folder: Path) -> Path:
    """An annotations folder with the lists of HMDB-51's 2-shot runs, of invented content."""
    names = "\n".join(f"{number},class {number}" for number in range(51))
    lines = "\n".join(f"{number}.avi {number % 51}" for number in range(102))
    for file, text in {
        "labels/hmdb_51_labels.csv": f"id,name\n{names}\n",
        "datasets_splits/hmdb_splits/train1_few_shot_2.txt": lines,
        "datasets_splits/hmdb_splits/val1.txt": lines,
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder
