"""Files of CLIP's weights: a run is known by what they hold, wherever they are."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import UserError
from experiments.grid.options import GridOptions
from experiments.grid.plan import expand
from experiments.grid.request import make_grid, plan_evaluation, plan_sweep
from experiments.grid.spec import RunSpec
from experiments.scheduler.sweep import Summary
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from tcclip.config import GEOMETRIES
from tcclip.weights.clip_weights import random_clip_state
from tests.experiments.sweeping import run_sweep
from tests.tcclip.weights.made import openai_state, save_openai_script


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What the demo's CLIP is drawn as from seed 3."""
    state = random_clip_state(GEOMETRIES["tiny"], torch.Generator().manual_seed(3))
    torch.save(state, tmp_path / "clip.pt")
    return tmp_path / "clip.pt"


def planned(*settings: str, seed: int = 0) -> tuple[RunSpec, dict[str, Path]]:
    options = GridOptions("zero_shot", demo=True, models="clip", seeds=str(seed), settings=settings)
    grid = make_grid(options)
    (spec,) = expand(grid)
    return spec, dict(grid.files)


def compute(spec: RunSpec, files: dict[str, Path], out: Path, cache: Path) -> Summary:
    return run_sweep([spec], out, cache, files=files)


def test_the_same_content_elsewhere_is_the_same_run(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = weights.parent / "deeper" / "other-name.pt"
    elsewhere.parent.mkdir()
    shutil.copy(weights, elsewhere)
    spec, files = planned(f"train.clip_weights={weights}")
    assert list(files.values()) == [weights]
    monkeypatch.chdir(elsewhere.parent)
    other, found = planned("train.clip_weights=other-name.pt")
    assert other == spec and other.run_id == spec.run_id
    assert found == {spec.clip_content: elsewhere}, "absolute, whatever the command was given"
    assert spec.key.overrides == (f"train.clip_weights=sha256:{str(spec.clip_content)[:10]}",)
    assert str(weights) not in spec.model_dump_json()
    torch.save(random_clip_state(GEOMETRIES["tiny"], torch.Generator().manual_seed(4)), elsewhere)
    assert planned("train.clip_weights=other-name.pt")[0].run_id != spec.run_id


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no file at {tmp_path / 'vit.pt'}; allowed: openai, ran"):
        planned("train.clip_weights=vit.pt")
    with pytest.raises(UserError, match="no file of weights at"):
        make_grid(GridOptions("few_shot", init_checkpoint=Path("best.pth")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ViT-B-16.safetensors", b"<!DOCTYPE html>", "is damaged, truncated .*web page"),
        ("ViT-B-16.pt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("best.pth", {"model": {"module.mit.x": torch.ones(1)}}, "it holds X-CLIP"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_planning(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for use in (
        lambda: planned(f"train.clip_weights={path}"),
        lambda: make_grid(GridOptions("few_shot", init_checkpoint=path)),
        lambda: plan_evaluation(GridOptions("zero_shot"), str(path), ensembled=True, datasets={}),
    ):
        with pytest.raises(UserError, match=rf"(?s){name} .*{message}"):
            use()


def test_weights_for_another_use_are_refused_at_planning(weights: Path) -> None:
    with pytest.raises(UserError, match=r"is no checkpoint of TC-CLIP or ViFi-CLIP.*clip_weights="):
        make_grid(GridOptions("few_shot", init_checkpoint=weights))


def test_what_a_file_does_not_say_of_its_activation(weights: Path, tmp_path: Path) -> None:
    def notes(path: str | Path, *settings: str) -> str:
        settings = (f"train.clip_weights={path}", *settings)
        options = GridOptions("zero_shot", demo=True, models="clip", seeds="0", settings=settings)
        return str(plan_sweep(options, DATASETS).notes)

    assert "does not say which activation" in notes(weights)
    assert notes(weights, "model.activation=gelu") == "[]"
    assert "trained with quick_gelu" in notes("openai", "model.activation=gelu")
    assert notes("random") == "[]"
    script = save_openai_script(tmp_path / "ViT-B-16.pt", openai_state())
    assert notes(script) == "[]", "OpenAI's own file has QuickGELU"


def test_grid_files_and_searches_may_name_files(weights: Path) -> None:
    (weights.parent / "grid.yaml").write_text(
        "protocol: zero_shot\nmodels: [clip]\nseeds: [0]\n"
        "rows: [{train.clip_weights: random}, {train.clip_weights: clip.pt}]\n"
    )
    grid = make_grid(GridOptions(str(weights.parent / "grid.yaml"), demo=True))
    (content,) = grid.files
    assert grid.files[content] == weights
    assert [one.clip_content for one in expand(grid)] == [None, content]
    search = f"train.clip_weights=choice('random', {str(weights)!r})"
    searched = make_grid(GridOptions("zero_shot", demo=True, search=[search], num_samples=8))
    assert searched.files == {content: weights}
    assert {row["train.clip_weights"] for row in searched.rows} == {"random", f"sha256:{content}"}


def test_a_run_starts_from_what_the_file_holds(weights: Path, tmp_path: Path, cache: Path) -> None:
    """CLIP as it is drawn from seed 3, read from a file by a run with another seed."""
    spec, files = planned(f"train.clip_weights={weights}")
    drawn, _ = planned(seed=3)
    assert compute(spec, files, tmp_path / "out", cache).exit_code == 0
    assert compute(drawn, {}, tmp_path / "out", cache).exit_code == 0
    read, known = (
        Ledger(tmp_path / "out").folder(one.run_id).read_result() for one in (spec, drawn)
    )
    assert read is not None and known is not None
    assert read.provenance.digests["initial state"] == known.provenance.digests["initial state"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda path: path.unlink(), "is not there; every node must have it at this path"),
        (lambda path: path.write_bytes(b""), "does not hold what it did when the run was planned"),
    ],
)
def test_a_file_that_changes_after_planning(
    weights: Path, tmp_path: Path, cache: Path, change: Callable[[Path], object], cause: str
) -> None:
    spec, files = planned(f"train.clip_weights={weights}")
    change(weights)
    summary = compute(spec, files, tmp_path / "out", cache)
    assert summary.exit_code == 1
    assert cause in summary.failed[spec.run_id]
