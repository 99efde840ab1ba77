"""Base-to-novel: 16 shots of half the classes, tested on both halves (SPEC 5, third row).

    tcclip sweep base_to_novel --data-root DATA --workers-per-run 4

Meant for 4 GPUs; hours not measured. Expected top-1 of TC-CLIP, base / novel / harmonic mean of
the means over the base splits s1-s3: K-400 78.9 / 63.6 / 70.4, HMDB-51 73.3 / 54.1 / 62.2,
UCF-101 95.5 / 78.0 / 85.9, SSv2 17.5 / 13.4 / 15.2.
"""

from protocols.protocol import Protocol, Statistic, Suite
from tcclip.config import TrainConfig, Views

_VIEWS = Views(clips=2)

BASE_TO_NOVEL = Protocol(
    name="base_to_novel",
    version=1,
    title="Base-to-novel, 16 shots of the base classes",
    datasets=("k400", "hmdb51", "ucf101", "ssv2"),
    axis="base_split",
    axis_values=(1, 2, 3),
    undefined=(("pretrained", "k400"),),
    train=TrainConfig(epochs=12, warmup_epochs=2, lr=3.33e-6, lr_min=3.33e-8, global_batch=64),
    train_split="base_s{base_split}",
    validation=Suite(name="validation", dataset="{dataset}", splits=("base_val",), views=_VIEWS),
    suites=(
        Suite(name="base", dataset="{dataset}", splits=("base_val",), views=_VIEWS),
        Suite(name="novel", dataset="{dataset}", splits=("novel_val",), views=_VIEWS),
    ),
    statistic=Statistic(axis="base_splits"),
)
