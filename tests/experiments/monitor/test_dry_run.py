"""What a run costs: its steps and test videos are those of the paper."""

import pytest

from experiments.grid.plan import Grid, expand
from experiments.monitor.dry_run import cost

#: Steps of a whole run: epochs x (videos // global batch), from SPEC 4 and 6.
STEPS = {
    ("few_shot", "hmdb51"): [50 * (51 * k // 64) for k in (2, 4, 8, 16)],
    ("few_shot", "ucf101"): [50 * (101 * k // 64) for k in (2, 4, 8, 16)],
    ("few_shot", "ssv2"): [50 * (174 * k // 64) for k in (2, 4, 8, 16)],
    ("base_to_novel", "k400"): [12 * (3200 // 64)] * 3,
    ("base_to_novel", "hmdb51"): [12 * (416 // 64)] * 3,
    ("base_to_novel", "ucf101"): [12 * (816 // 64)] * 3,
    ("base_to_novel", "ssv2"): [12 * (1392 // 64)] * 3,
}
TESTED = {
    "zero_shot": {"k400": 3 * 1530 + 3783 + 3734 + 3696 + 14084 + 13978 + 14136},
    "few_shot": {"hmdb51": 1530, "ucf101": 3783, "ssv2": 24777},
    "base_to_novel": {"k400": 9944 + 9933, "hmdb51": 780 + 750, "ucf101": 2088 + 1695,
                      "ssv2": 17562 + 7215},
    "fully_supervised": {"k400": 19877},
}  # fmt: skip


@pytest.mark.parametrize("protocol", TESTED)
def test_videos_and_steps_are_those_of_the_paper(protocol: str) -> None:
    steps: dict[tuple[str, str], list[int | None]] = {}
    for spec in expand(Grid(protocol)):
        one = cost(spec, {})
        assert one.eval_videos == TESTED[protocol][spec.key.dataset]
        steps.setdefault((protocol, spec.key.dataset), []).append(one.steps)
    for point, counts in steps.items():
        # K400's training list is not of published length: nothing is claimed without it.
        assert counts == STEPS.get(point, [None])


def test_a_list_at_hand_gives_its_steps() -> None:
    (spec,) = expand(Grid("zero_shot"))
    assert cost(spec, {}, train_videos=2560).steps == 10 * 10
    assert cost(spec, {}, train_videos=2559).steps == 10 * 9
