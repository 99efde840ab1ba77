"""Packs as a user makes and uses them: `tcclip data pack`, `data check`, runs."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from experiments.datasets.pack import pack as packing
from experiments.datasets.pack.record import read_record
from tcclip.data.annotations import read_list
from tests.places import ROOT

VIDEOS = 6
SWEEP = ("sweep", "zero_shot", "--models", "clip", "--executor", "local", "--device", "cpu")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def here(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own data set of a few videos, `own.yaml`, and its pack-to-be, `packed.yaml`."""
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TCCLIP_DATA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    for number, item in enumerate(read_list(shapes / "splits" / "val.txt")[:VIDEOS]):
        video = tmp_path / "videos" / f"{number % 2}" / f"{number}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shapes / "videos" / item.path, video)
    names = [f"{number % 2}/{number}.mp4 {number % 2}\n" for number in range(VIDEOS)]
    Path("test.txt").write_text("".join(names))
    Path("labels.csv").write_text("id,name\n0,wave\n1,nod\n")
    for file, videos in (("own.yaml", "videos"), ("packed.yaml", "packs/mine")):
        Path(file).write_text(
            f"name: mine\nvideos: {videos}\nlabels: labels.csv\nsplits: {{test: test.txt}}\n"
        )
    return tmp_path


def tcclip(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    error = "" if done.exception is None else str(done.exception)
    return done.exit_code, " ".join((done.output + error).split())


def pack(*more: str, to: str = "packs") -> tuple[int, str]:
    asked = ("data", "pack", "--dataset-file", "own.yaml", "--to", to, "--short-side", "36")
    return tcclip(*asked, "--workers", "1", *more)


def content(folder: str) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stop_after(videos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends when so many are packed, as a kill would end it: nothing is tidied up."""

    def room(folder: Path, packed: int, size: int, left: int) -> None:
        if packed == videos:
            raise KeyboardInterrupt

    monkeypatch.setattr(packing, "_check_room", room)


def test_one_that_was_stopped_equals_one_made_at_once(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack(to="whole")[0] == 0
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert pack()[0] != 0
    journal = Path("packs/mine/.unfinished/done.csv")
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_text("".join(lines)[:-20])  # the last was being written
    (journal.parent / "1234.zip").write_bytes(b"half a video")
    code, text = tcclip("data", "check", "--dataset-file", "packed.yaml", "--datasets", "mine")
    assert code == 1 and "packs/mine is a pack that is not complete" in text
    code, text = tcclip(*SWEEP, "--dataset-file", "packed.yaml", "--dry-run")
    assert code == 2 and "mine: its pack is not complete" in text
    code, text = pack()
    assert code == 0 and f"{VIDEOS} videos of mine" in text and "PSNR" in text
    assert content("packs/mine") == content("whole/mine")
    assert set(content("packs/mine")) > {"pack.json", "videos.csv", "0/2.mp4.frames.zip"}
    assert pack()[0] == 0 and content("packs/mine") == content("whole/mine")


@pytest.mark.slow
def test_one_that_was_killed_equals_one_made_at_once(here: Path) -> None:
    for number in range(VIDEOS, 60):
        shutil.copy("videos/0/0.mp4", f"videos/0/{number}.mp4")
    Path("test.txt").write_text("".join(f"{n % 2 * (n < 6)}/{n}.mp4 0\n" for n in range(60)))
    asked = ("data", "pack", "--dataset-file", "own.yaml", "--workers", "2", "--to")
    command = [sys.executable, str(ROOT / "cli.py"), *asked, "packs"]
    for packed in (1, 20, 40):
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(Path().glob("packs/*/0/*.zip"))) < packed:
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert tcclip(*asked, "packs")[0] == tcclip(*asked, "whole")[0] == 0
    assert content("packs/mine") == content("whole/mine")
    assert len(content("packs/mine")) == 62


def test_damage_is_named_and_mended(here: Path) -> None:
    assert pack()[0] == 0
    before = content("packs/mine")
    cut, swapped = (Path(f"packs/mine/0/{name}.mp4.frames.zip") for name in (0, 2))
    cut.write_bytes(cut.read_bytes()[:-100])
    check = ("data", "check", "--dataset-file", "packed.yaml", "--datasets", "mine")
    code, text = tcclip(*check)
    size = len(before["0/0.mp4.frames.zip"])
    assert code == 1 and f"0/0.mp4.frames.zip has {size - 100} bytes of {size}" in text
    data = bytearray(swapped.read_bytes())
    data[60] ^= 1
    swapped.write_bytes(data)
    code, text = tcclip(*check, "--decode", "all")
    assert code == 1 and "0/2.mp4 (not the file that was packed: another sha256)" in text
    swapped.unlink()
    assert pack()[0] == 0 and content("packs/mine") == before
    code, text = tcclip(*check, "--decode", "all", "--format", "json")
    assert code == 0 and f'"pack": {VIDEOS}' in text


def test_what_cannot_be_packed_is_said_and_tried_again(here: Path) -> None:
    whole = Path("videos/0/0.mp4").read_bytes()
    Path("videos/0/0.mp4").write_bytes(b"no video")
    Path("videos/1/1.mp4").unlink()
    code, text = pack()
    assert code == 0 and "not there: 1/1.mp4" in text
    assert "could not be packed: 0/0.mp4 (pyav: cannot be opened" in text
    _, text = tcclip("data", "check", "--dataset-file", "packed.yaml", "--datasets", "mine")
    assert "0/0.mp4 (could not be packed: pyav" in text and "1/1.mp4 (not in the pack" in text
    Path("videos/0/0.mp4").write_bytes(whole)
    _, text = pack()
    assert "could not" not in text and "packed before" not in text
    later = Path("packs/mine/0/0.mp4.frames.zip").stat().st_mtime + 1
    os.utime("videos/0/0.mp4", (later, later))
    assert "mine: packed before the video was last written: 0/0.mp4; if it shows" in pack()[1]


def test_a_full_disk_is_refused_before_and_during(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packing, "SAMPLE", 2)
        patch.setattr(packing.shutil, "disk_usage", lambda folder: Usage(9, 9, 1000))
        code, text = pack()
    assert code != 0 and "GB more are needed for 4 videos, and 0.0 GB are free. Make room" in text
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(packing, "sync", lambda path: (_ for _ in ()).throw(full))
        code, text = pack()
    assert code != 0 and "cannot be written: No space left on device. Make room" in text
    assert read_record(Path("packs/mine")) is None
    assert pack()[0] == 0 and len(read_record(Path("packs/mine")) or ()) == VIDEOS


def test_what_is_refused(here: Path) -> None:
    assert pack()[0] == 0
    assert "is a pack of other settings (JPEG quality 92" in pack("--quality", "80")[1]
    Path("packed.yaml").rename("own.yaml")
    assert "packs/mine is a pack already" in pack(to="others")[1]
    Path("full/mine").mkdir(parents=True)
    Path("full/mine/notes.txt").touch()
    Path("own.yaml").write_text(Path("own.yaml").read_text().replace("packs/mine", "videos"))
    assert "holds something else" in pack(to="full")[1]
    Path("mine").symlink_to("videos")
    assert "is where the videos are" in pack(to=".")[1]
    assert "unknown data set 'x'" in pack("--datasets", "x")[1]
    assert "say what to pack" in tcclip("data", "pack", "--to", "packs")[1]


def test_a_run_on_a_pack_is_another_run_and_says_so(here: Path) -> None:
    pack("--frames", "16")
    sizes = [f"augment.{size}" for size in ("crop=32", "resize=36")]
    settings = [*sizes, "model.backbone=tiny", "train.clip_weights=random"]
    asked = [*SWEEP, *(word for one in settings for word in ("--set", one))]
    code, text = tcclip(*asked, "--dataset-file", "packed.yaml", "--out", "out")
    note = "mine read from a pack: JPEG quality 92, short side 36, at most 16 frames, sha256"
    assert code == 0 and note in text
    (packed,) = Path("out/runs").iterdir()
    plans = {}
    for file in ("own.yaml", "packed.yaml"):
        plan = tcclip(
            *asked, "--dataset-file", file, "--out", "out", "--dry-run", "--format", "json"
        )
        plans[file] = '"state": "finished"' in plan[1]
    assert plans == {"own.yaml": False, "packed.yaml": True}
    words = (*SWEEP, "--dataset-file", "packed.yaml", "--set", "augment.reader=published")
    code, text = tcclip(*words, "--dry-run")
    assert code == 2 and "augment.reader=published needs the videos themselves" in text
    assert "augment.resize 256 is more than the 36 pixels that the pack of mine keeps" in text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("pack.json", b"[" * 10**5, "pack.json is not that of a pack"),
        ("pack.json", b"\xff", "pack.json is not that of a pack"),
        ("videos.csv", b"video\n\xff\n", "videos.csv:2 is not UTF-8"),
        ("videos.csv", b"video\na,1\n", "videos.csv:2 is damaged"),
        ("videos.csv", b"video\na,x,1,1,b,0,0,\n", "videos.csv:2 is damaged"),
        ("videos.csv", b'video\n"' + b"a" * 10**6 + b'",\n', "videos.csv:2 is damaged"),
        (".unfinished/done.csv", b"video\na,b\n", "done.csv:2 is damaged"),
    ],
)
def test_a_damaged_pack_is_named(here: Path, file: str, content: bytes, message: str) -> None:
    assert pack()[0] == 0
    path = Path("packs/mine", file)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    code, text = pack()
    assert code != 0 and message in text
    check = ("data", "check", "--dataset-file", "packed.yaml", "--datasets", "mine")
    for words in (check, (*SWEEP, "--dataset-file", "packed.yaml", "--dry-run")):
        assert file.startswith(".") or (message in tcclip(*words)[1])
