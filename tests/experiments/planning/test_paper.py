"""The paper as one sweep: every published row of ours, parents once, cheapest first, a budget."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import protocols
from experiments.grid.options import GridOptions
from experiments.planning.paper import plan_paper, progress
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from results.published.numbers import published
from results.reading.run_filter import point_of
from results.tables.formats import make, render
from tests.builders import make_result
from tests.results import builder

Command = Callable[..., tuple[int, str, str]]


def planned(tcclip: Command, out: Path, *options: str) -> tuple[list[dict[str, object]], str]:
    arguments = ("sweep", "paper", "--dry-run", "--format", "json", "--out", out, *options)
    code, text, error = tcclip(*arguments)
    assert code == 0, error
    return json.loads(text), error


def test_every_published_row_of_ours_is_in_the_grid_and_parents_once(
    tmp_path: Path, tcclip: Command
) -> None:
    runs, _ = planned(tcclip, tmp_path)
    ids = [str(run["run_id"]) for run in runs]
    assert len(ids) == len(set(ids))
    points = [point_of(run_id) for run_id in ids]
    for one in published():
        if one.model not in ("clip", "vifi_clip", "tc_clip"):
            continue
        trained_on = "k400" if one.protocol == "zero_shot" else one.dataset
        # There are no LLM names for SSv2: its row repeats the base row's runs.
        variant = "base" if (one.variant, one.dataset) == ("llm", "ssv2") else one.variant
        wanted = (one.protocol, trained_on, one.model, variant)
        assert any(
            (p["protocol"], p["datasets"], p["models"], p["variants"]) == wanted for p in points
        ), wanted
    parents = {run["after"] for run in runs if run["after"]}
    assert len(parents) == 1 and all(ids.index(str(p)) < ids.index(str(run["run_id"]))
                                     for run in runs if (p := run["after"]))  # fmt: skip


def test_a_budget_takes_the_cheapest_and_says_what_is_left(tmp_path: Path, tcclip: Command) -> None:
    def hours(run: dict[str, object]) -> float:
        return float(run["cost"]["gpu_hours"])  # type: ignore[index]

    runs, error = planned(tcclip, tmp_path, "--budget", "6h", "--datasets", "hmdb51,ucf101")
    costs = [hours(run) for run in runs]
    assert costs == sorted(costs) and 5 < sum(costs) <= 6
    found = re.search(
        r"--budget 6 GPU-hours: (\S+) planned; (\d+) more runs would take (\S+)", error
    )
    assert found and float(found[1]) == round(sum(costs), 1) and int(found[2]) > 0
    for text in ("x", "-1h", "4 days"):
        code, _, error = tcclip("sweep", "paper", "--dry-run", "--budget", text)
        assert code == 2 and "give GPU-hours, e.g. 40h" in error
    code, _, error = tcclip(
        "sweep", "paper", "--dry-run", "--budget", "0.001", "--models", "tc_clip"
    )
    assert code == 2 and "nothing is planned" in error
    command = ("sweep", "few_shot", "--dry-run", "--datasets", "ucf101", "--budget", "1h")
    code, _, error = tcclip(*command)
    assert code == 0 and "more runs would take" in error, "of any sweep"


def test_options_choose_among_the_papers_runs(tmp_path: Path, tcclip: Command) -> None:
    runs, _ = planned(tcclip, tmp_path, "--datasets", "ucf101", "--shots", "2", "--seeds", "0,1",
                      "--models", "tc_clip", "--variants", "pretrained")  # fmt: skip
    names = [str(run["run_id"]).split("-")[0] for run in runs]
    assert sorted(names) == ["few_shot"] * 2 + ["zero_shot"] * 2, "and what they start from"
    code, _, error = tcclip("sweep", "paper", "--dry-run", "--datasets", "nothing")
    assert code == 2 and "no run of the paper" in error
    code, _, error = tcclip("sweep", "paper", "--search", "train.lr=choice(1)")
    assert code == 2 and "are of one protocol" in error


@pytest.mark.parametrize("format", ["terminal", "md", "html", "latex", "json", "csv"])
def test_the_page_says_what_is_missing_and_what_it_costs(
    format: str, tmp_path: Path, tcclip: Command
) -> None:
    (tmp_path / "runs").mkdir()
    code, text, error = tcclip("report", "paper", "--out", tmp_path, "--format", format)
    assert code == 0, error
    if format == "csv":
        assert text.count("protocol,title") == 1 and "fully_supervised" in text
        return
    assert re.search(r"Few-shot, K videos a class: 0 of \d+ runs done, \d+ missing, \d+\.\d", text)
    for figure in ("78.1", "73.0", "90.5", "96.9"):
        assert figure in text, "every published row"
    if format == "json":
        assert len(json.loads(text)["reports"]) == 4


def test_what_is_done_in_any_of_the_folders_counts(tmp_path: Path) -> None:
    specs = plan_paper(GridOptions("paper"), DATASETS).specs
    folders = [Ledger(tmp_path / name) for name in ("one", "two")]
    few_shot = [spec for spec in specs if spec.key.protocol == "few_shot"]
    for number, spec in enumerate([*few_shot[:2], few_shot[0]]):
        folder = folders[number % 2].folder(spec.run_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.result.write_text(make_result(spec).model_dump_json())
    lines = progress([str(one.out) for one in folders], demo=False)
    assert any(re.search(r"Few-shot, .*: 2 of \d+ runs done", line) for line in lines), lines


def test_a_page_of_one_axis(tmp_path: Path, tcclip: Command) -> None:
    (tmp_path / "runs").mkdir()
    command = ("report", "paper", "--out", tmp_path, "--shots", "2", "--write", tmp_path)
    code, text, _ = tcclip(*command)
    tables = text.partition("\n\n")[2]
    assert code == 0 and "K=2" in tables and "K=4" not in tables and "novel" not in tables
    assert {path.suffix for path in tmp_path.glob("paper.*")} == {
        ".txt", ".md", ".json", ".csv", ".tex", ".html"
    }  # fmt: skip
    code, _, error = tcclip(*command, "--splits", "1")
    assert code == 2 and "no protocol has --shots and --splits" in error


def test_a_row_may_be_called_like_a_footnote(tmp_path: Path) -> None:
    protocol = protocols.get("zero_shot")
    made = builder.result(protocol, builder.key(protocol, dataset="k400"), lambda *_: 50.0)
    (builder.write_result(tmp_path, made) / "name.txt").write_text("my #note 3")
    page = make([str(tmp_path)], "paper")
    assert "my #note 3" in render(page, "html")
