"""The data sets, their splits and label sets (SPEC 6), as data.

Paths are relative: annotation lists and label files to the annotations folder, videos to the
data set's video folder.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field, model_validator

from tcclip.config import FrozenModel


class LabelSet(FrozenModel):
    """Class names of one list of classes: a file of `id,name` rows or JSON `{"id": "name"}`.

    `llm` is the file of LLM-rephrased names, where one was published.
    """

    name: str
    file: str
    classes: int
    llm: str | None = None


class Split(FrozenModel):
    """One annotation list and the class list its label ids index. `videos`: lines, if published."""

    name: str
    annotations: str
    labels: str
    videos: int | None = None


Named = TypeVar("Named", Split, LabelSet)


class Pack(FrozenModel):
    """How the videos of a pack are stored: JPEG frames, which lose something (docs/packs.md).

    `frames`: how many a video are kept at most, evenly spaced; None: all. `digest`: sha256 of the
    pack's record, so of every file in it; None while it is not complete.
    """

    format: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=92, ge=1, le=100)
    short_side: int = Field(default=256, ge=16)
    frames: int | None = Field(default=None, ge=16)
    digest: str | None = Field(default=None, exclude_if=lambda digest: digest is None)

    def __str__(self) -> str:
        frames = "every frame" if self.frames is None else f"at most {self.frames} frames"
        known = "not complete" if self.digest is None else f"sha256 {self.digest[:10]}"
        return f"JPEG quality {self.quality}, short side {self.short_side}, {frames}, {known}"


class Dataset(FrozenModel):
    """A data set: what it is called, its splits and label sets.

    `flip`: whether a mirrored clip still shows its class (SPEC 3: never for SSv2).
    `embedded`: made by the project itself, in its cache folder. `digests`: of a user's own data
    set, file -> sha256 of the videos or class names in it. `pack`: set where its videos are read
    from one on this machine.
    """

    name: str
    title: str
    splits: tuple[Split, ...]
    label_sets: tuple[LabelSet, ...]
    flip: bool = True
    embedded: bool = False
    digests: dict[str, str] = Field(default_factory=dict)
    pack: Pack | None = None

    @model_validator(mode="after")
    def _labels_exist(self) -> Dataset:
        for split in self.splits:
            self.labels(split.labels)
        return self

    def split(self, name: str) -> Split:
        """The split called `name`; ValueError naming the known ones."""
        return _named(self.splits, name, f"data set {self.name} has no split")

    def labels(self, name: str) -> LabelSet:
        """The label set called `name`; ValueError naming the known ones."""
        return _named(self.label_sets, name, f"data set {self.name} has no label set")


def _named(among: tuple[Named, ...], name: str, problem: str) -> Named:
    found = {one.name: one for one in among}
    if name not in found:
        raise ValueError(f"{problem} {name!r}; it has: {', '.join(found)}")
    return found[name]


SHOTS = (2, 4, 8, 16)


def _split(name: str, annotations: str, videos: int | None, labels: str = "all") -> Split:
    return Split(name=name, annotations=annotations, labels=labels, videos=videos)


def _base_to_novel(folder: str, shots: int, base: int, novel: int) -> tuple[Split, ...]:
    path = f"datasets_splits/base2novel_splits/{folder}"
    return (
        *(_split(f"base_s{s}", f"{path}/fs_base_s{s}_train.txt", shots, "base") for s in (1, 2, 3)),
        _split("base_val", f"{path}/base_val.txt", base, "base"),
        _split("novel_val", f"{path}/novel_val.txt", novel, "novel"),
    )


def _few_shot(folder: str, classes: int) -> tuple[Split, ...]:
    path = f"datasets_splits/{folder}"
    return tuple(
        _split(f"train_{k}shot", f"{path}/train1_few_shot_{k}.txt", k * classes) for k in SHOTS
    )


def _vals(folder: str, videos: tuple[int, int, int]) -> tuple[Split, ...]:
    return tuple(
        _split(f"val{i}", f"datasets_splits/{folder}/val{i}.txt", count)
        for i, count in enumerate(videos, start=1)
    )


def _labels(stem: str, classes: tuple[int, int, int]) -> tuple[LabelSet, ...]:
    """The full, base and novel label sets of a data set that has all three, LLM names included."""
    return tuple(
        LabelSet(
            name=name,
            file=f"labels/{stem}{infix}_labels.csv",
            classes=count,
            llm=f"labels/labels_froster/{stem}{infix}_llm_labels.json",
        )
        for name, infix, count in zip(
            ("all", "base", "novel"), ("", "_base", "_novel"), classes, strict=True
        )
    )


def _temporal_static(
    folder: str, stem: str, val: str, static: tuple[int, int, int], temporal: tuple[int, int, int]
) -> tuple[tuple[Split, ...], tuple[LabelSet, ...]]:
    """Subsets of the classes that need no motion / need motion: (classes, train, val videos)."""
    splits: list[Split] = []
    labels: list[LabelSet] = []
    path = f"datasets_splits/temporal_static_splits/{folder}"
    for kind, (classes, train, held_out) in (("static", static), ("temporal", temporal)):
        file = f"labels/labels_temporal_static/{stem}_{kind}{classes}_labels.csv"
        labels.append(LabelSet(name=kind, file=file, classes=classes))
        splits.append(_split(f"{kind}_train", f"{path}/train_{kind}{classes}.txt", train, kind))
        splits.append(_split(f"{kind}_val", f"{path}/{val}_{kind}{classes}.txt", held_out, kind))
    return tuple(splits), tuple(labels)


HMDB51 = Dataset(
    name="hmdb51",
    title="HMDB-51",
    splits=(
        *_vals("hmdb_splits", (1530, 1530, 1530)),
        *_few_shot("hmdb_splits", 51),
        *_base_to_novel("hmdb_splits", 416, 780, 750),
    ),
    label_sets=_labels("hmdb_51", (51, 26, 25)),
)

UCF101 = Dataset(
    name="ucf101",
    title="UCF-101",
    splits=(
        *_vals("ucf_splits", (3783, 3734, 3696)),
        *_few_shot("ucf_splits", 101),
        *_base_to_novel("ucf_splits", 816, 2088, 1695),
    ),
    label_sets=_labels("ucf_101", (101, 51, 50)),
)

_K400_SUBSETS = _temporal_static(
    "k400_splits", "kinetics_400", "val", (32, 18296, 1593), (32, 21101, 1588)
)
K400 = Dataset(
    name="k400",
    title="K-400",
    splits=(
        # The number of lines was not counted: the list is missing from the copies we had.
        _split("train", "datasets_splits/k400_splits/train.txt", None),
        _split("train_tiny", "datasets_splits/k400_splits/train_tiny.txt", 60000),
        _split("val", "datasets_splits/k400_splits/val.txt", 19877),
        *_base_to_novel("k400_splits", 3200, 9944, 9933),
        *_K400_SUBSETS[0],
    ),
    label_sets=(*_labels("kinetics_400", (400, 200, 200)), *_K400_SUBSETS[1]),
)

# The last line of each list ends without a newline, so `wc -l` reports one video fewer.
K600 = Dataset(
    name="k600",
    title="K-600",
    splits=tuple(
        _split(
            f"val{i}", f"datasets_splits/k600_splits/ZS_split{i}_K600_eval.txt", videos, f"split{i}"
        )
        for i, videos in ((1, 14084), (2, 13978), (3, 14136))
    ),
    label_sets=tuple(
        LabelSet(
            name=f"split{i}",
            file=f"labels/ZS_split{i}_K600.csv",
            classes=160,
            llm=f"labels/labels_froster/ZS_split{i}_K600_llm.json",
        )
        for i in (1, 2, 3)
    ),
)

_SSV2_SUBSETS = _temporal_static(
    "ssv2_splits", "ssv2", "validation", (16, 15097, 2225), (18, 25012, 3371)
)
SSV2 = Dataset(
    name="ssv2",
    title="SSv2",
    splits=(
        _split("train", "datasets_splits/ssv2_splits/train.txt", 168913),
        _split("val", "datasets_splits/ssv2_splits/validation.txt", 24777),
        *_few_shot("ssv2_splits", 174),
        *_base_to_novel("ssv2_splits", 1392, 17562, 7215),
        *_SSV2_SUBSETS[0],
    ),
    # No LLM names were published for SSv2: its LLM row repeats the base row (SPEC 5).
    label_sets=(
        LabelSet(name="all", file="labels/ssv2_labels.csv", classes=174),
        LabelSet(name="base", file="labels/ssv2_174_base_labels.csv", classes=87),
        LabelSet(name="novel", file="labels/ssv2_174_novel_labels.csv", classes=87),
        *_SSV2_SUBSETS[1],
    ),
    flip=False,
)

#: Made by `tcclip.data.moving_shapes`: 96 classes = 6 colours x 4 shapes x 4 motions, half of the
#: combinations seen in training, the other half unseen and split into three lists.
MOVING_SHAPES = Dataset(
    name="moving_shapes",
    title="moving shapes",
    splits=(
        _split("train", "splits/train.txt", 384, "seen"),
        _split("val", "splits/val.txt", 96, "seen"),
        *(_split(f"unseen{i}", f"splits/unseen{i}.txt", 64, f"unseen{i}") for i in (1, 2, 3)),
        *(_split(f"train_{k}shot", f"splits/train_{k}shot.txt", 48 * k, "seen") for k in (2, 4, 8)),
        *(_split(f"base_s{s}", f"splits/base_s{s}.txt", 288, "seen") for s in (1, 2, 3)),
        _split("base_val", "splits/base_val.txt", 96, "seen"),
        _split("novel_val", "splits/novel_val.txt", 192, "unseen"),
    ),
    label_sets=(
        LabelSet(name="seen", file="labels/seen.csv", classes=48),
        LabelSet(name="unseen", file="labels/unseen.csv", classes=48),
        *(LabelSet(name=f"unseen{i}", file=f"labels/unseen{i}.csv", classes=16) for i in (1, 2, 3)),
    ),
    embedded=True,
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (K400, K600, HMDB51, UCF101, SSV2, MOVING_SHAPES)
}
