"""`tcclip predict`: any videos, any words, every format; what cannot be read is a row."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tcclip as package
from experiments.inference.answers.timeline import clock
from tests.made_videos import pictures, write_video
from tests.tcclip.model.builders import NAMES
from tests.tcclip.predict.made import make_checkpoint, make_clips

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    make_checkpoint(folder)
    make_clips(folder / "clips", 2)
    (folder / "clips" / "notes.txt").write_text("no video")
    write_video(folder / "long.mp4", shown=pictures(60), g="8")
    return folder


@pytest.fixture
def predict(tcclip: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `tcclip predict` in the folder, with its checkpoint."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        return tcclip("predict", *arguments, "--checkpoint", "best.safetensors", "--device", "cpu")

    return run


def test_json_says_what_python_says(predict: Run, folder: Path) -> None:
    code, out, err = predict("clips/0.mp4", "--format", "json", "--top", "2")
    (found,) = json.loads(out)
    expected = package.load(folder).predict("clips/0.mp4", top=2)
    assert (code, found) == (0, expected.as_json())
    assert list(found) == ["video", "top", "windows", "rejected", "error"]
    assert "import " in err and "model " in err and "videos " in err


def test_folders_patterns_and_what_is_left_out(
    predict: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = predict("clips", "clips/*.mp4", "--format", "json", "--top", "1")
    assert code == 0
    assert [one["video"] for one in json.loads(out)] == ["clips/0.mp4", "clips/1.mp4"]
    assert "clips: left out, no videos: 1 files (1 .txt)" in err
    monkeypatch.setenv("HOME", str(folder))
    _, out, _ = predict("~/clips/*1.mp4", "--format", "json", "--top", "1")
    assert [one["video"] for one in json.loads(out)] == [f"{folder}/clips/1.mp4"]


def test_an_image_beside_videos_is_no_video(predict: Run, tmp_path: Path) -> None:
    (clip,) = make_clips(tmp_path, 1)
    Image.new("RGB", (40, 40)).save(tmp_path / "cover_1.png")
    code, out, err = predict(str(tmp_path), "--format", "json")
    assert (code, [one["video"] for one in json.loads(out)]) == (0, [str(clip)])
    assert "left out, no videos: 1 files (1 .png)" in err
    clip.unlink()
    out = predict(str(tmp_path), "--format", "json")[1]
    assert [one["video"] for one in json.loads(out)] == [str(tmp_path)]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("absent.mp4", "no such file"),
        ("text.mp4", "cannot be opened"),
        ("sound.wav", "the file has no video stream"),
    ],
)
def test_a_broken_video_is_a_row_and_exit_1(
    predict: Run, folder: Path, name: str, cause: str
) -> None:
    (folder / "text.mp4").write_text("not a video\n" * 50)
    silence = bytes(8820)
    header = b"RIFF" + (36 + len(silence)).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
    header += (44100).to_bytes(4, "little") + (88200).to_bytes(4, "little") + b"\2\0\x10\0data"
    (folder / "sound.wav").write_bytes(header + len(silence).to_bytes(4, "little") + silence)
    code, out, err = predict(name, "clips/0.mp4", "--format", "json")
    broken, good = json.loads(out)
    assert (code, broken["top"], good["error"]) == (1, [], None)
    assert cause in broken["error"] and "Traceback" not in err
    code, out, _ = predict(name, "clips/0.mp4")
    assert (code, cause in out, NAMES[0] in out) == (1, True, True)


@pytest.mark.parametrize("target", ["clips/0.mp4", "clips", "new.PNG", "clip"])
def test_answers_are_written_over_no_video(predict: Run, folder: Path, target: str) -> None:
    shutil.copy(folder / "clips/0.mp4", folder / "clip")  # a video without its ending
    before = (folder / "clips/0.mp4").read_bytes()
    code, out, err = predict("clip", "clips/1.mp4", "--format", "csv", "--write", target)
    assert (code, out) == (2, "") and f"--write {target} " in err
    assert (folder / "clips/0.mp4").read_bytes() == (folder / "clip").read_bytes() == before
    assert not (folder / "new.PNG").exists()
    (folder / "clip").unlink()


def test_a_name_that_is_no_utf_8_is_written(predict: Run, tmp_path: Path) -> None:
    clip = make_clips(tmp_path, 1)[0].rename(tmp_path / "caf\udce9.mp4")
    assert predict(str(clip), "--format", "csv", "--write", str(tmp_path / "new.csv"))[0] == 0
    assert "caf\\udce9.mp4" in (tmp_path / "new.csv").read_text()


def test_one_frame_is_a_video(predict: Run, folder: Path) -> None:
    write_video(folder / "one.mp4", shown=pictures(1), g="1")
    code, out, err = predict("one.mp4", "--format", "json", "--window", "4s")
    (found,) = json.loads(out)
    assert (code, len(found["windows"])) == (0, 1)
    assert "one.mp4 has 1 frame" in err


def test_a_time_is_rounded_before_it_is_split() -> None:
    assert [clock(one) for one in (0, 59.94, 59.96, 3600.0)] == [
        "0:00.0", "0:59.9", "1:00.0", "60:00.0",
    ]  # fmt: skip


def test_a_timeline(predict: Run, folder: Path) -> None:
    window = ("--window", "0.8s", "--stride", "0.6s", "--top", "1")
    code, out, _ = predict("long.mp4", *window, "--format", "json")
    (found,) = json.loads(out)
    times = [(one["start"], one["end"]) for one in found["windows"]]
    assert code == 0
    # 60 frames at 25 a second; the last window ends with the video.
    assert times == [(0.0, 0.8), (0.6, 1.4), (1.2, 2.0), (1.6, 2.4)]
    rows = list(csv.DictReader(io.StringIO(predict("long.mp4", *window, "--format", "csv")[1])))
    assert [row["start"] for row in rows] == ["", "0", "0.6", "1.2", "1.6"]
    assert "0:00.0-0:02.4" in predict("long.mp4", *window, "--reject", "1.0")[1]
    page = predict("long.mp4", *window, "--format", "html", "--write", "page.html")
    assert page[:2] == (0, "")
    text = (folder / "page.html").read_text()
    assert text.count('title="0:') == 4 and "http" not in text.replace("http-equiv", "")


def test_other_words(predict: Run, folder: Path) -> None:
    (folder / "names.txt").write_text("wave\n\nride a bike, fast\n")
    (folder / "names.json").write_text('["wave", "ride a bike, fast"]')
    (folder / "names.csv").write_text('id,name\n0,wave\n1,"ride a bike, fast"\n')
    answers = []
    for name in ("names.txt", "names.json", "names.csv"):
        code, out, _ = predict("clips/0.mp4", "--classes", name, "--format", "json")
        answers.append(json.loads(out)[0]["top"])
        assert (code, {one["class"] for one in answers[-1]}) == (0, {"wave", "ride a bike, fast"})
    assert answers[0] == answers[1] == answers[2]
    (folder / "names.json").write_text('{"0": ["wave", "greet"], "1": "ride a bike, fast"}')
    _, out, err = predict("clips/0.mp4", "--classes", "names.json", "--format", "json")
    assert json.loads(out)[0]["top"] == answers[0]
    assert "names.json: 1 of 2 classes have several names; the first is used here" in err
    out = predict("clips/0.mp4", "--classes", "wave, jump", "--prompt", "a {} seen")[1]
    assert "wave" in out and "jump" in out and "seen" not in out


def test_ten_thousand_classes(predict: Run, folder: Path) -> None:
    (folder / "many.txt").write_text("\n".join(f"thing {n}" for n in range(10_000)))
    code, out, _ = predict("clips/0.mp4", "--classes", "many.txt", "--format", "json")
    assert (code, len(json.loads(out)[0]["top"])) == (0, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--classes", " , "), "names no class"),
        (("--classes", "absent.txt"), "--classes absent.txt: no such file"),
        (("--classes", "w" * 300), "shorten the name"),
        (("--prompt", "a clip"), "write {} once"),
        (("--views", "0x1"), "clips x crops"),
        (("--window", "four"), "give a length"),
        (("--reject", "calibrated"), "have not been calibrated"),
        (("clips/*.avi",), "matches no file"),
        (("--ensemble", "0.7", "--clip-weights", "openai"), "started from random weights"),
    ],
)
def test_mistakes_are_one_message(
    predict: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = predict("clips/0.mp4", *arguments, "--write", "never.json")
    assert (code, out, "Traceback" in err) == (2, "", False)
    assert message in err and len(err) < 600
    assert not (folder / "never.json").exists()


def test_checkpoints_that_cannot_be_used(tcclip: Run, folder: Path, tmp_path: Path) -> None:
    import torch

    other = tmp_path / "xclip.pth"
    torch.save(
        {"model": {"mit.positional_embedding": torch.zeros(1), "visual.proj": torch.zeros(1)}},
        other,
    )
    for given, message in (
        (str(other), "X-CLIP"),
        (str(folder / "clips/notes.txt"), "no file of weights"),
        (str(tmp_path / "absent.pth"), "no checkpoint at"),
        (str(folder / "clips"), "one checkpoint (NAME.safetensors) is expected"),
        ("nosuchrun", "no run of"),
        ("hf://repository", "is not hf://owner/repository"),
    ):
        code, out, err = tcclip("predict", folder / "clips/0.mp4", "--checkpoint", given)
        assert (code, out) == (2, ""), given
        assert message in err and "Traceback" not in err, (given, err)


def test_weights_can_be_ensembled_and_the_precision_chosen(predict: Run) -> None:
    def probability(*arguments: str) -> Any:
        return json.loads(predict("clips/0.mp4", "--format", "json", *arguments)[1])[0]["top"]

    assert probability("--ensemble", "1") == probability()
    assert probability("--ensemble", "0.5") != probability()
    assert probability("--precision", "bf16") != probability("--precision", "fp32")
