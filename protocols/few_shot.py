"""Few-shot: K videos a class, the same classes tested (SPEC 5, second row).

    tcclip sweep few_shot --data-root DATA --workers-per-run 4

Meant for 4 GPUs; hours not measured. Expected top-1 of TC-CLIP at K = 2 / 4 / 8 / 16:
HMDB-51 57.3 / 62.3 / 67.3 / 68.6, UCF-101 85.9 / 89.9 / 92.5 / 94.6, SSv2 7.3 / 8.6 / 9.3 / 14.0.

Quirk: the best validation epoch on the test list is itself the result; there is no final test.
"""

from protocols.datasets import SHOTS
from protocols.protocol import Protocol, Statistic, Suite
from tcclip.config import TrainConfig, Views

_TEST = Suite(name="{dataset}", dataset="{dataset}", splits=("{test}",), views=Views(clips=2))

FEW_SHOT = Protocol(
    name="few_shot",
    version=1,
    title="Few-shot, K videos a class",
    datasets=("hmdb51", "ucf101", "ssv2"),
    axis="shots",
    axis_values=SHOTS,
    train=TrainConfig(
        epochs=50, warmup_epochs=5, lr=2e-6, lr_min=2e-8, global_batch=64, validate_every=10
    ),
    train_split="train_{shots}shot",
    validation=_TEST,
    suites=(_TEST,),
    eval_splits={"hmdb51": "val1", "ucf101": "val1", "ssv2": "val"},
    statistic=Statistic(axis="none"),
)
