"""`tcclip export`: a run or a checkpoint as a folder, and its upload."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

import protocols
import tcclip as package
from experiments.grid.plan import Grid, expand
from experiments.store.ledger import Ledger
from tcclip.data.annotations import sha256_of
from tests.results import builder
from tests.tcclip.export.hub import Hub, loopback_hub
from tests.tcclip.model.builders import NAMES, small_model
from tests.tcclip.model.published import to_published
from tests.tcclip.predict.made import make_checkpoint

Command = Callable[..., tuple[int, str, str]]
#: Percent of val1, val2, val3: mean 52, population std 1.63; ensembled, four more.
PERCENT = {"val1": 50.0, "val2": 52.0, "val3": 54.0}


def percent(suite: str, split: str, metric: str, weights: str, checkpoint: str) -> float:
    return PERCENT[split] + 4 * (weights == "ensembled") + 9 * (checkpoint == "last")


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The id of a finished zero-shot run under tmp_path / "out", of a small model."""
    (spec,) = expand(Grid("zero_shot", seeds=(1,)))
    ledger = Ledger(tmp_path / "out")
    ledger.add([spec])
    result = builder.result(protocols.get("zero_shot"), spec.key, percent)
    result = result.model_copy(update={"run_id": spec.run_id})
    folder = tmp_path / "out" / "runs" / spec.run_id
    (folder / "result.json").write_text(result.model_dump_json())
    (folder / "checkpoints").mkdir()
    made = make_checkpoint(tmp_path)
    for ending in (".json", ".safetensors"):
        made.with_suffix(ending).rename(folder / "checkpoints" / f"best-0008{ending}")
    return spec.run_id


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with loopback_hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def test_a_run_with_its_numbers(tcclip: Command, run: str, tmp_path: Path) -> None:
    to = tmp_path / "model"
    code, out, err = tcclip("export", run[:-4], "--out", tmp_path / "out", "--to", to)
    assert (code, out.strip()) == (0, str(to)), err
    assert "tcclip_model.py" in err
    card = ModelCard.load(to / "README.md")
    hmdb51, *others = card.data.eval_results
    assert (hmdb51.metric_value, hmdb51.dataset_split) == (52.0, "val1, val2, val3")
    assert "population std of 3 splits (1.63)" in hmdb51.metric_name
    assert [one.dataset_type for one in others] == ["ucf101", "k600"]
    for text in (run, "Zero-shot, trained on K-400", "8 of 10, the best in validation"):
        assert text in card.text
    assert package.load(to).class_names == NAMES


def test_ensembled_weights_have_the_ensembled_numbers(
    tcclip: Command, run: str, tmp_path: Path
) -> None:
    shares = {}
    for share in ("0.7", "0.5"):
        to = tmp_path / share
        given = ("export", run, "--out", tmp_path / "out", "--to", to, "--ensemble", share)
        assert tcclip(*given)[0] == 0
        shares[share] = ModelCard.load(to / "README.md")
        # They are mixed already.
        assert json.loads((to / "model.json").read_text())["start"] is None
    assert shares["0.7"].data.eval_results[0].metric_value == 56.0
    assert "0.7 of the trained ones" in shares["0.7"].text
    assert "No results are recorded" in shares["0.5"].text


def test_a_checkpoint_has_the_numbers_of_its_evaluation(tcclip: Command, tmp_path: Path) -> None:
    made, out = make_checkpoint(tmp_path), tmp_path / "out"
    protocol = protocols.get("zero_shot")
    for seed, digest in enumerate((sha256_of(made), "f" * 64)):
        key = builder.key(protocol, origin=f"checkpoint {digest[:10]}", seed=seed)
        builder.write_result(out, builder.result(protocol, key, percent))
    assert tcclip("export", made, "--out", out, "--to", tmp_path / "model")[0] == 0
    results = ModelCard.load(tmp_path / "model" / "README.md").data.eval_results
    assert [one.metric_value for one in results] == [52.0] * 3


def test_a_published_checkpoint_needs_names(tcclip: Command, tmp_path: Path) -> None:
    path, to = tmp_path / "published.pth", tmp_path / "model"
    torch.save(to_published(small_model().state_dict(), split=True), path)
    code, _, err = tcclip("export", path, "--to", to)
    assert code == 2 and "--classes" in err and not to.exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--private"], "--private is of --push"),
        (["--push", "a b"], "'a b' cannot be a repository's name"),
        (["--ensemble", "2"], "--ensemble"),
        (["--format", "pdf"], "--format"),
        (["--classes", " , "], "names no class"),
        (["--classes", "word " * 90], "shorten the name"),
        (["--classes", "Push Up,push_up"], "are one class to the model"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    tcclip: Command, tmp_path: Path, more: list[str], says: str
) -> None:
    checkpoint = make_checkpoint(tmp_path)
    code, _, err = tcclip("export", checkpoint, "--to", tmp_path / "model", *more)
    assert code == 2 and says in err and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "best.safetensors"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("none", "no checkpoint 'none'"), ("text.txt", "text.txt"), ("best.safetensors", "best.json")],
)
def test_what_is_no_checkpoint_is_said(
    tcclip: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path).with_suffix(".json").unlink()
    (tmp_path / "text.txt").write_text("text")
    code, _, err = tcclip("export", name, "--to", "model")
    assert code == 2 and says in err and not (tmp_path / "model").exists()


def test_a_folder_that_is_there_is_kept(tcclip: Command, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    code, _, err = tcclip("export", checkpoint, "--to", tmp_path)
    assert code == 2 and "is there already" in err and checkpoint.is_file()


def test_push_uploads_the_whole_folder(tcclip: Command, tmp_path: Path, hub: Hub) -> None:
    checkpoint, to = make_checkpoint(tmp_path), tmp_path / "model"
    given = ("export", checkpoint, "--to", to, "--push", "someone/a-model", "--private")
    code, out, err = tcclip(*given)
    assert (code, out.strip()) == (0, f"{hub.url}/someone/a-model"), err
    assert hub.files == {path.name: path.read_bytes() for path in to.iterdir()}
    assert hub.commits == 1
    assert hub.created[0]["name"] == "a-model" and hub.created[0]["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_refused_upload_is_said_and_the_folder_stays(
    tcclip: Command, tmp_path: Path, hub: Hub
) -> None:
    hub.refuses = 403
    checkpoint, to = make_checkpoint(tmp_path), tmp_path / "model"
    code, _, err = tcclip("export", checkpoint, "--to", to, "--push", "someone/a-model")
    assert code == 2 and "someone/a-model could not be uploaded" in err and "no rights" in err
    assert "hf_secret" not in err and (to / "README.md").is_file()


def test_a_hub_that_does_not_answer_is_said(
    tcclip: Command, tmp_path: Path, hub: Hub, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    checkpoint, to = make_checkpoint(tmp_path), tmp_path / "model"
    code, _, err = tcclip("export", checkpoint, "--to", to, "--push", "someone/a-model")
    assert code == 2 and "could not be uploaded" in err and "refused" in err


def test_without_a_token_nothing_is_written(
    tcclip: Command, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    checkpoint, to = make_checkpoint(tmp_path), tmp_path / "model"
    code, _, err = tcclip("export", checkpoint, "--to", to, "--push", "someone/a-model")
    assert code == 2 and "HF_TOKEN" in err and not to.exists()
