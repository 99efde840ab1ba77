"""Fully supervised: train and test on Kinetics-400 (SPEC 5, last row).

    tcclip sweep fully_supervised --data-root DATA --workers-per-run 4

Meant for 4 GPUs; hours not measured. Expected of TC-CLIP: top-1 85.2, top-5 96.9.

Quirk: the epoch is selected on K400 val, which is also the test list.
"""

from protocols.protocol import Protocol, Statistic, Suite
from tcclip.config import TrainConfig, Views

FULLY_SUPERVISED = Protocol(
    name="fully_supervised",
    version=1,
    title="Fully supervised on K-400",
    title_on_others="Fully supervised",
    datasets=("k400",),
    variants=("base", "llm"),
    train=TrainConfig(epochs=30, warmup_epochs=5, lr=2.2e-5, lr_min=2.2e-7, global_batch=512),
    train_split="train",
    validation=Suite(name="validation", dataset="k400", splits=("val",)),
    suites=(Suite(name="k400", dataset="k400", splits=("val",), views=Views(clips=4, crops=3)),),
    statistic=Statistic(axis="none", metrics=("top1", "top5")),
)
