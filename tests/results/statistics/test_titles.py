"""What the rows of a table are called: short, and never the same."""

from pathlib import Path

import pytest

import protocols
from results.report.report import report
from results.statistics.runs import Method
from results.statistics.titles import Titles
from results.tables.formats import FORMATS, render
from tests.results import builder

SHARED = ("train.epochs=5", "train.global_batch=8", "train.lr=1e-05")


def method(*settings: str, model: str = "tc_clip", variant: str = "base") -> Method:
    return Method(model, variant, ", ".join(sorted(settings)))


def test_what_all_have_is_left_out_and_the_rest_is_short() -> None:
    plain, wide = method(*SHARED), method(*SHARED, "model.context_tokens=192")
    many = method(*SHARED, "model.prompt_layers=[6, 12]", "model.seed_ratio=0.5", "train.wd=0.3")
    titles = Titles([plain, wide, many], {})
    assert titles.shared == SHARED
    assert titles.of(plain) == "TC-CLIP" and titles.note(plain) is None
    assert titles.of(wide) == "TC-CLIP [model.context_tokens=192]" and titles.note(wide) is None
    assert titles.of(many) == "TC-CLIP [model.prompt_layers=[6, 12], +2]"
    assert titles.note(many) == (
        "TC-CLIP [model.prompt_layers=[6, 12], +2]: model.prompt_layers=[6, 12], "
        "model.seed_ratio=0.5, train.wd=0.3"
    )
    assert Titles([many], {}).of(many) == "TC-CLIP", "a table of one row"


def test_equal_names_are_told_apart() -> None:
    a, b = method("train.lr=1"), method("train.lr=1", model="vifi_clip")
    c, d = method("train.lr=2"), method(variant="llm")
    titles = Titles([a, b, c, d], dict.fromkeys([a, b, c, d], "mine"))
    assert [titles.of(one) for one in (a, b, c, d)] == [
        "mine TC-CLIP [train.lr=1]", "mine, ViFi-CLIP", "mine TC-CLIP [train.lr=2]",
        "mine, TC-CLIP (LLM)",
    ]  # fmt: skip
    same = [Method("clip", "base", "", "trained", version) for version in (1, 2)]
    assert [Titles(same, {}).of(one) for one in same] == ["CLIP", "CLIP (2)"]


@pytest.mark.parametrize("format", FORMATS)
def test_ten_tries_with_names_make_a_readable_table(tmp_path: Path, format: str) -> None:
    """Settings of all once, of one in a footnote, and no line of the terminal wider than it."""
    protocol = protocols.get("few_shot", demo=True)
    for number in range(10):
        own = (*SHARED, *(f"model.m{n}={number}" for n in range(8)))
        of = builder.key(protocol, shots=4, seed=0, overrides=own)
        folder = builder.write_result(tmp_path, builder.result(protocol, of, lambda *_: 60.0))
        (folder / "name.txt").write_text(f"idea {number}: a longer explanation of what it is")
    shown = report(tmp_path, "few_shot", demo=True)
    text = render(shown, format, width=80)
    assert max(len(row.title) for row in shown.rows) <= 60
    if format in ("terminal", "md", "html", "latex"):
        lines = text.replace("\\_", "_").splitlines()
        assert sum("train.lr=1e-05" in line for line in lines) == 1
        assert text.replace("\n  ", " ").replace("\\_", "_").count("model.m7=3") == 1
    if format == "terminal":
        assert max(map(len, text.splitlines())) <= 80
