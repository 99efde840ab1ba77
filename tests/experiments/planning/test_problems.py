"""The command line: a dry run lists every problem, a sweep refuses before it writes anything."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cli
from experiments.datasets.check.decoding import DecodedFile, append_decoded
from experiments.datasets.check.record import check_file
from tcclip.config import ModelConfig
from tcclip.model import build_model, save_checkpoint
from tests.experiments.planning.lists import SETTINGS, own_paths, write_own


def tcclip(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, **settings: object
) -> int:
    """`tcclip` in `folder` with the tiny model's settings; its exit status."""
    changed = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    options = [part for name, value in changed.items() for part in ("--set", f"{name}={value}")]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TCCLIP_CACHE", str(folder / "cache"))
    monkeypatch.setattr(sys, "argv", ["tcclip", *arguments, *options, "--out", "out"])
    with pytest.raises(SystemExit) as stop:
        sys.exit(cli.main())
    assert isinstance(stop.value.code, int)
    return stop.value.code


SWEEP = ("sweep", "few_shot", "--dataset-file", "own.yaml", "--datasets", "own", "--shots", "4",
         "--micro-batch", "4", "--executor", "local", "--device", "cpu")  # fmt: skip


def test_a_dry_run_lists_every_problem_and_a_sweep_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path)
    assert tcclip(monkeypatch, tmp_path, *SWEEP, "--dry-run", "--seeds", "0,1,2") == 0
    assert "problem" not in capsys.readouterr().err
    wrong = {"train__global_batch": 64, "augment__resize": 20}
    again = (*SWEEP, "--seeds", "0,1,2")
    assert tcclip(monkeypatch, tmp_path, *again, "--dry-run", **wrong) == 2
    shown = capsys.readouterr()
    assert "3 runs: 3 planned" in shown.out
    assert "own has no LLM names" not in shown.err
    lines = [line for line in shown.err.splitlines() if line.startswith("problem: ")]
    assert len(lines) == 2 and all(line.endswith(" and 1 more)") for line in lines), lines
    assert tcclip(monkeypatch, tmp_path, *again, **wrong) == 2
    error = capsys.readouterr().err
    assert "do not fill one global batch of 64" in error and "augment.resize 20" in error
    assert error.endswith("nothing was started\n") and "Traceback" not in error
    assert not (tmp_path / "out").exists()
    asked = (*SWEEP[:-1], "cuda", "--variants", "llm", "--dry-run")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tcclip(monkeypatch, tmp_path, *asked) == 2
    error = capsys.readouterr().err
    assert "problem: --device cuda, but torch finds no CUDA device" in error
    assert "own has no LLM names: its llm runs are its base runs" in error


def test_a_search_is_checked_in_every_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path)
    search = ("--search", "augment.crop=choice(24,28)", "--num-samples", "6", "--dry-run")
    assert tcclip(monkeypatch, tmp_path, *SWEEP, "--executor", "ray", *search) == 2
    error = capsys.readouterr().err
    assert "augment.crop is 24 pixels" in error and "augment.crop is 28 pixels" in error


@pytest.mark.parametrize("name", ["page.pt", "cut.safetensors", "other.pt"])
def test_starting_weights_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write_own(tmp_path)
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    weights = {"train__clip_weights": name}
    assert tcclip(monkeypatch, tmp_path, *SWEEP, "--dry-run", **weights) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert tcclip(monkeypatch, tmp_path, *SWEEP, **weights) == 2
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path)
    changes = {name.removeprefix("model."): x for name, x in SETTINGS.items() if "model." in name}
    for name, tokens in (("same", {}), ("other", {"frame_attention": "none"})):
        config = ModelConfig.model_validate(changes | tokens)
        save_checkpoint(
            build_model(config, ["a"], clip_weights="random"), tmp_path / f"{name}.safetensors"
        )
    pretrained = (*SWEEP, "--dry-run", "--variants", "pretrained", "--init-checkpoint")
    assert tcclip(monkeypatch, tmp_path, *pretrained, "same.safetensors") == 0
    assert tcclip(monkeypatch, tmp_path, *pretrained, "other.safetensors") == 2
    error = capsys.readouterr().err
    assert "other.safetensors does not fit the model" in error


def test_test_videos_that_the_last_check_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_paths = own_paths(write_own(tmp_path)).model_copy(update={"cache": tmp_path / "cache"})
    state = check_file(data_paths, "own").with_suffix(".jsonl")
    for name in "bcdf":
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(name.encode())
    for name, cause in (("a.mp4", "no frame"), ("e.mp4", "no frame could be decoded")):
        file = tmp_path / "videos" / name
        file.write_bytes(b"broken " + name.encode())
        status = file.stat()
        append_decoded(
            state,
            DecodedFile(
                file=str(file), bytes=status.st_size, modified_ns=status.st_mtime_ns, cause=cause
            ),
        )
    dry_run = (*SWEEP, "--dry-run")
    assert tcclip(monkeypatch, tmp_path, *dry_run) == 2
    error = capsys.readouterr().err
    assert "own val: 1 of 2 videos could not be read by the last `tcclip data check`" in error
    assert "e.mp4 (no frame could be decoded)" in error and "a.mp4" not in error
    assert tcclip(monkeypatch, tmp_path, *dry_run, "--max-unreadable", "0.5") == 0
    (tmp_path / "videos/e.mp4").write_bytes(b"another file")
    assert tcclip(monkeypatch, tmp_path, *dry_run) == 0


def test_the_videos_of_a_validation_list_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = write_own(tmp_path)
    (tmp_path / "test.txt").write_text("f.mp4 1\n")
    yaml.write_text(yaml.read_text().replace("val: val.txt", "val: val.txt, test: test.txt"))
    data_paths = own_paths(yaml).model_copy(update={"cache": tmp_path / "cache"})
    file = tmp_path / "videos" / "e.mp4"
    found = DecodedFile(
        file=str(file), bytes=0, modified_ns=file.stat().st_mtime_ns, cause="no frame"
    )
    append_decoded(check_file(data_paths, "own").with_suffix(".jsonl"), found)
    assert tcclip(monkeypatch, tmp_path, *SWEEP, "--dry-run") == 2
    assert "own val: 1 of 2 videos could not be read" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["is empty", "cannot be read: No such file or directory"])
def test_a_folder_of_videos_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    write_own(tmp_path)
    shutil.rmtree(tmp_path / "videos")
    if state == "is empty":
        (tmp_path / "videos").mkdir()
    allowed = ("--max-unreadable", "1")
    assert tcclip(monkeypatch, tmp_path, *SWEEP, *allowed, "--dry-run") == 2
    text = f"own: the folder of its videos, {tmp_path / 'videos'}, {state}; correct `videos:` in"
    assert f"problem: {text}" in capsys.readouterr().err
    on_ray = (*SWEEP, *allowed, "--dry-run", "--executor", "ray")
    assert tcclip(monkeypatch, tmp_path, *on_ray) == 2
    capsys.readouterr()
    # Other machines may have what this one has not.
    assert tcclip(monkeypatch, tmp_path, *on_ray, "--address", "head:6379") == 0
    assert f"on this machine: {text}" in capsys.readouterr().err


def test_a_problem_names_the_runs_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(tmp_path)
    write_own(tmp_path / "other", "other", labels="id,name\n0,push\n1,Push\n")
    shutil.rmtree(tmp_path / "other" / "videos")
    both = ("--dataset-file", "other/own.yaml", "--datasets", "own,other", "--dry-run")
    assert tcclip(monkeypatch, tmp_path, *SWEEP[:4], *both, *SWEEP[6:]) == 2
    problems = [line for line in capsys.readouterr().err.splitlines() if "problem: " in line]
    assert len(problems) == 2, problems
    assert all("(few_shot-other-" in line and "-own-" not in line for line in problems), problems


@pytest.mark.parametrize("home", ["/dev/null/cache", "read-only"])
def test_a_cache_that_cannot_be_written_is_found_before_anything_starts(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    tcclip: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    folder = tmp_path / "home" / "cache" if home == "read-only" else Path(home)
    if home == "read-only":
        (tmp_path / "home").mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "home")
    monkeypatch.setenv("TCCLIP_CACHE", str(folder))
    code, _, error = tcclip("sweep", "zero_shot", "--demo", "--out", tmp_path / "out")
    assert code == 2
    assert f"the cache folder {folder} cannot be written in" in error
    assert "set TCCLIP_CACHE to a folder" in error and not (tmp_path / "out").exists()
