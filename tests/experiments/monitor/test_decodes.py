"""What a grid decodes, counted from its lists."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import ListSpec
from experiments.monitor.cost import validations
from experiments.monitor.decodes import count_decodes
from experiments.monitor.rates import CLIPS
from protocols.datasets import DATASETS, Pack

TEST = [f"test_{number}.avi" for number in range(1530)]
FEW_SHOT: dict[str, Any] = {
    "datasets": ("hmdb51",), "shots": (2, 16), "variants": ("base", "llm", "pretrained"),
}  # fmt: skip


def paths(one: ListSpec) -> list[str] | None:
    """Lists of HMDB51's size; fewer shots are a part of more."""
    if one.dataset != "hmdb51":
        return None
    name = one.split.name
    shots = int(name.removeprefix("train_").removesuffix("shot")) if "shot" in name else 0
    return [f"{c}_{k}.avi" for c in range(51) for k in range(shots)] or TEST


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_few_shot_grid_decodes_a_fortieth(seeds: tuple[int, ...]) -> None:
    specs = [s for s in expand(Grid("few_shot", seeds=seeds, **FEW_SHOT)) if "few" in s.run_id]
    found = count_decodes(specs, paths, limit=10**12, share=0.5)
    assert len(found) == len(specs) == 6 * len(seeds)
    decoded = sum(one.test_views_decoded for one in found.values())
    # Two views, drawn by the seed; the first version decoded them in each validation and again in
    # the end, and each training clip of each epoch.
    assert decoded == 1530 * 2 * len(seeds)
    before = sum((validations(spec) + 1) * 1530 * 2 for spec in specs)
    assert before / decoded >= 40
    assert sum(one.train_clips_decoded for one in found.values()) == 16 * 51
    clips = 50 * (64 + 768) * 3 * len(seeds)
    assert sum(one.train_clips for one in found.values()) == clips
    assert (before + clips) / (decoded + 16 * 51) >= 40


def test_what_is_not_kept_is_decoded_each_time() -> None:
    (spec,) = expand(Grid("few_shot", datasets=("hmdb51",), shots=(2,), seeds=(0,)))
    for limit, views, clips in ((0, 6 * 3060, 3200), (10**9, 3060, 3200), (10**12, 3060, 102)):
        (one,) = count_decodes([spec], paths, limit, share=0.5).values()
        assert (one.test_views, one.train_clips) == (6 * 3060, 3200)
        assert (one.test_views_decoded, one.train_clips_decoded) == (views, clips)
        assert one.core_hours == pytest.approx((views + clips) / CLIPS["hmdb51"] / 3600)
    (more,) = count_decodes([spec.extended(60)], paths, 0, share=0.5).values()
    assert more.train_clips == 3200 // 5, "ten epochs follow the fifty"


def test_decoding_a_pack_costs_what_was_measured_of_packs() -> None:
    (spec,) = expand(Grid("few_shot", datasets=("hmdb51",), shots=(2,), seeds=(0,)))
    pack = Pack(short_side=256, quality=92, digest="0" * 64)
    packed = spec.model_copy(
        update={
            name: tuple(one.model_copy(update={"pack": pack}) for one in getattr(spec, name))
            for name in ("validation", "suites")
        }
        | {"train_list": spec.train_list.model_copy(update={"pack": pack})}
    )
    one, other = (count_decodes([s], paths, 10**12, 0.5)[s.run_id] for s in (spec, packed))
    assert one.core_hours / other.core_hours == pytest.approx(75 / CLIPS["hmdb51"])


@pytest.mark.parametrize("size", ["100", "1", "0"])
def test_a_dry_run_counts_them(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DATASETS["hmdb51"]
    for name in ("val1", "train_2shot", "train_16shot"):
        file = tmp_path / data.split(name).annotations
        file.parent.mkdir(parents=True, exist_ok=True)
        one = ListSpec.model_construct(dataset="hmdb51", split=data.split(name))
        file.write_text("".join(f"{path} 0\n" for path in paths(one) or ()))
    command = ["tcclip", "sweep", "few_shot", "--datasets", "hmdb51", "--shots", "2,16",
               "--variants", "base,llm,pretrained", "--annotations", str(tmp_path), "--dry-run",
               "--cache-size", size, "--out", str(tmp_path / "out")]  # fmt: skip
    for format in ("terminal", "json"):
        monkeypatch.setattr(sys, "argv", [*command, "--format", format])
        with pytest.raises(SystemExit):
            sys.exit(cli.main())
        text = capsys.readouterr().out
        if format == "terminal":
            counted = next(line for line in text.splitlines() if line.startswith("decoding, coun"))
            assert ("3060 of 110160 test views" in counted) is (size != "0")
            assert ("816 of 124800 training clips" in counted) is (size == "100")
            assert ("none of which is kept" in counted) is (size == "0")
            assert ("these test views take 7 GB" in text) is (size == "1")
            assert ("training list take up to 20 GB" in text) is (size == "1")
        else:
            rows = [row["decodes"] for row in json.loads(text) if "decodes" in row]
            assert sum(row["test_views"] for row in rows) == 110160
