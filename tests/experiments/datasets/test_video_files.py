from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest

from experiments.datasets import video_files
from experiments.datasets.video_files import FoundVideos, find_videos, same_video_key, strip_ending

NFC, NFD = normalize("NFC", "caf\u00e9"), normalize("NFD", "caf\u00e9")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    video_files._read.cache_clear()
    video_files._walk.cache_clear()


def store(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)


def published(folder: Path, *listed: str) -> FoundVideos:
    return find_videos(folder, listed, loose=True)


def own(folder: Path, *listed: str) -> FoundVideos:
    return find_videos(folder, listed, loose=False)


def stored(found: FoundVideos) -> dict[str, str]:
    return {path: file.path for path, file in found.files.items()}


@pytest.mark.parametrize(
    ("listed", "stored_at", "difference"),
    [
        ("a_b.avi", "a_b.avi", ""),
        ("a_b.avi", "wave/a_b.avi", "other folder"),
        ("val/x_1.mp4", "x_1.mp4", "other folder"),
        ("train/x_1.mp4", "train/abseiling/x_1.mp4", "other folder"),
        ("train/x_1.mp4", "replacement/for_corrupted_k400/x_1.mp4", "other folder"),
        ("123.webm", "123.mp4", "other ending"),
        ("123.webm", "123.WEBM", "other ending"),
        ("sub.folder/a b.c.mp4", "a b.c.mkv", "other folder, other ending"),
        (f"{NFC}.avi", f"{NFD}.avi", "other Unicode form"),
        (f"{NFD}.avi", f"x/{NFC}.mp4", "other folder, other ending"),
        *[("a.avi", f"a.{ending}", "other ending") for ending in ("ts", "m2ts", "MTS", "wmv")],
        *[("a.avi", f"a.{ending}", "other ending") for ending in ("ogv", "asf", "vob", "mxf")],
    ],
)
def test_a_published_video_is_found_however_it_is_stored(
    tmp_path: Path, listed: str, stored_at: str, difference: str
) -> None:
    store(tmp_path, stored_at, "other/another.mp4", "notes.txt")
    found = published(tmp_path, listed, "gone.mp4")
    assert stored(found) == {listed: stored_at}
    assert found.missing == {"gone.mp4": ""}
    locate = pickle.loads(pickle.dumps(found.locate))
    assert locate(listed) == tmp_path / stored_at
    assert locate("gone.mp4") == tmp_path / "gone.mp4"
    assert video_files.difference(listed, stored_at) == difference


def test_published_videos_of_one_name(tmp_path: Path) -> None:
    store(tmp_path, "train/x.mp4", "b/x.mp4", "replacement/y.mp4", "b/y.mp4", "b/z.mp4", "c/z.mp4")
    found = published(tmp_path, "train/x.mp4", "train/y.mp4", "train/z.mp4")
    assert stored(found) == {"train/x.mp4": "train/x.mp4", "train/y.mp4": "replacement/y.mp4"}
    assert found.missing == {"train/z.mp4": "may be any of b/z.mp4, c/z.mp4"}


@pytest.mark.parametrize(
    ("listed", "stored_at", "answered"),
    [
        (["a.mp4", "a.avi"], "a.mp4", ["a.mp4"]),  # its own line comes first
        (["a.mkv", "a.avi"], "a.mp4", []),
        (["train/a.mp4", "val/a.mp4"], "a.mp4", []),
        (["a.mp4", "b/a.mp4"], "a.mp4", ["a.mp4"]),
        (["b/a.mp4", "./b//a.mp4"], "a.mp4", ["./b//a.mp4", "b/a.mp4"]),  # one name
    ],
)
def test_no_file_answers_lines_of_different_names(
    tmp_path: Path, listed: list[str], stored_at: str, answered: list[str]
) -> None:
    store(tmp_path, stored_at)
    found = published(tmp_path, *listed)
    assert sorted(found.files) == answered
    assert all("would answer another entry" in why for why in found.missing.values())
    assert set(found.missing) == set(listed) - set(answered)


@pytest.mark.parametrize(
    ("listed", "stored_at"),
    [
        ("a/1.mp4", "a/1.mp4"),
        ("./a//1.mp4", "a/1.mp4"),
        ("game_1.5", "game_1.5.mp4"),
        ("game_1.5", "game_1.5.M2TS"),
        ("a/game", "a/game.webm"),
        (f"{NFC}/{NFC}.mp4", f"{NFD}/{NFD}.mp4"),
        (f"{NFD}/{NFD}", f"{NFC}/{NFC}.mov"),
        ("clip.dat", "clip.dat"),
    ],
)
def test_an_own_line_means_its_path(tmp_path: Path, listed: str, stored_at: str) -> None:
    store(tmp_path, stored_at, "b/1.mp4", "game_1.mp4", "b/game_1.5.mp4")
    assert stored(own(tmp_path, listed)) == {listed: stored_at}


@pytest.mark.parametrize(
    ("listed", "stored_at", "remark"),
    [
        ("a/3.mp4", "b/3.mp4", "there is b/3.mp4: if that is the video, write its path"),
        ("a/3.mp4", "3.mp4", "there is 3.mp4"),
        ("a.avi", "a.mp4", "there is a.mp4"),
        ("A.mp4", "a.mp4", "there is a.mp4"),
        ("game_1.5", "game_1.mp4", ""),
        ("game_1", "game_1.5.mp4", ""),
        ("a.mp4", "a.mp4.avi", ""),
        ("gone.mp4", "a.mp4", ""),
        ("a\\b.mp4", "a/b.mp4", "write / between folders and file"),
        ("a.mp4", "a.mp4/b.mp4", "is neither a file nor a folder of frames"),
        ("x" * 300, "a.mp4", "File name too long"),
    ],
)
def test_an_own_line_means_no_other_path(
    tmp_path: Path, listed: str, stored_at: str, remark: str
) -> None:
    store(tmp_path, stored_at)
    found = own(tmp_path, listed)
    assert found.files == {}
    assert remark in found.missing[listed]
    assert bool(remark) == bool(found.missing[listed])
    assert found.locate(listed) == tmp_path / listed


def test_a_listed_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    store(tmp_path, "wave/1/img_00001.JPG", "wave/2/notes.txt", "wave/4/a.txt", "wave/4.mp4")
    found = own(tmp_path, "wave/1", "wave/2", "wave/4")
    assert stored(found) == {"wave/1": "wave/1", "wave/4": "wave/4.mp4"}
    assert found.files["wave/1"].size == 0
    assert found.missing == {"wave/2": "is neither a file nor a folder of frames"}


@pytest.mark.parametrize("loose", [False, True])
def test_a_folder_of_frames_comes_before_a_video_of_its_name(tmp_path: Path, loose: bool) -> None:
    store(tmp_path, "wave/1/00001.jpg", "wave/1.mp4", "wave/2/00001.jpg")
    found = find_videos(tmp_path, ["wave/1", "wave/2"], loose=loose)
    assert stored(found) == {"wave/1": "wave/1", "wave/2": "wave/2"}
    assert video_files._read.cache_info().misses == 0, "nothing else is looked for"


def test_an_own_line_with_several_endings_to_choose_from(tmp_path: Path) -> None:
    store(tmp_path, "a.mp4", "a.avi")
    assert own(tmp_path, "a").missing == {"a": "may be any of a.avi, a.mp4"}


def test_a_missing_line_names_the_file_it_seems_to_mean(tmp_path: Path) -> None:
    store(tmp_path, "a/1.mp4", "b/1.mp4", "c.mp4")
    found = own(tmp_path, "a/1.avi", "A/1.mp4", "x/c.mp4")
    assert {path: file.path for path, file in found.meant.items()} == {
        "a/1.avi": "a/1.mp4",
        "A/1.mp4": "a/1.mp4",
    }


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    store(videos, "run/b.mp4")
    store(elsewhere, "a.mp4", f"deep/{NFD}.mp4")
    (videos / "wave").symlink_to(elsewhere, target_is_directory=True)
    (videos / "again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "up").symlink_to(videos, target_is_directory=True)
    (videos / "self").symlink_to("self")
    (videos / "broken.mp4").symlink_to("nowhere.mp4")
    found = published(videos, "a.avi", "b.mp4", f"{NFC}.mp4", "broken.mp4")
    assert stored(found) == {
        "a.avi": "again/a.mp4",
        "b.mp4": "run/b.mp4",
        f"{NFC}.mp4": f"again/deep/{NFD}.mp4",
    }
    assert found.missing == {"broken.mp4": "a link to nowhere.mp4, which is not there"}
    assert "again/up/ links to the videos folder itself: not read a second time" in found.notes
    assert "wave/ links to again/: not read a second time" in found.notes
    assert sum("self cannot be read" in note for note in found.notes) == 1
    assert len(found.notes) == 3
    assert stored(own(videos, "wave/a", f"wave/deep/{NFC}.mp4")) == {
        "wave/a": "wave/a.mp4",
        f"wave/deep/{NFC}.mp4": f"wave/deep/{NFD}.mp4",
    }


def test_links_to_one_file_are_no_choice(tmp_path: Path) -> None:
    store(tmp_path, "b/x.mp4")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.mp4").symlink_to("../b/x.mp4")
    os.link(tmp_path / "b" / "x.mp4", tmp_path / "x.mp4.mkv")
    assert stored(published(tmp_path, "a/x.mp4")) == {"a/x.mp4": "b/x.mp4"}


def test_a_folder_is_read_once_and_only_if_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, *(f"c{n % 3}/{n}.mp4" for n in range(60)))
    reads: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: reads.append(str(path)) or scandir(path))
    found = published(tmp_path, *(f"c{n % 3}/{n}.mp4" for n in range(60)))
    assert (len(found.files), reads) == (60, [])
    steps: list[tuple[int, int]] = []
    found = find_videos(
        tmp_path,
        [f"{n}.avi" for n in range(60)],
        loose=True,
        progress=lambda *step: steps.append(step),
    )
    assert len(found.files) == 60
    own(tmp_path, *(f"c{n % 3}/{n}" for n in range(70)))
    folders = [path for path in reads if Path(path).is_dir()]
    assert len(folders) == len(set(folders)) == 4
    assert steps[-1] == (60, 60)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    found = published(tmp_path / "gone", "a.mp4")
    assert found.missing == {"a.mp4": ""}
    assert found.notes == (f"{tmp_path / 'gone'} is not there",)


def test_names() -> None:
    names = ["a.mp4", "a.b.MTS", "game_1.5", "x.264", ".mp4", "a.ts/b", "a"]
    assert [strip_ending(name) for name in names] == [
        "a", "a.b", "game_1.5", "x.264", ".mp4", "a.ts/b", "a",
    ]  # fmt: skip
    assert same_video_key("./A//b.MP4") == same_video_key("a/b.avi") != same_video_key("b.avi")
