"""Other projects' lists, as they are published, become lists in our own form."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.datasets.own.foreign_lists import read_names, split_name
from experiments.datasets.own.init import Form, Request, Written, init
from experiments.datasets.own.yaml_file import read_own
from experiments.errors import UserError
from tcclip.data.annotations import read_class_names, read_list
from tests.experiments.datasets.own.made import empty_videos


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def content(written: Written) -> dict[str, dict[str, str]]:
    """Split -> path -> class name, as a run reads them."""
    own = read_own(written.file)
    names = read_class_names(own.annotations / own.dataset.label_sets[0].file)
    return {
        one.name: {
            item.path: names[item.label] for item in read_list(own.annotations / one.annotations)
        }
        for one in own.dataset.splits
        if "shot" not in one.name
    }


@dataclass(frozen=True)
class Published:
    """Lists as another project publishes them, the videos that are there, and what is read."""

    videos: tuple[str, ...]
    lists: dict[str, str]
    expected: dict[str, dict[str, str]]
    notes: tuple[str, ...] = ()


UCF101 = Published(
    ("Archery/v_Archery_g01.avi", "Push Up/v_Push_g01.avi", "v_Push_g08.mp4",
     "Archery/v_Archery_g08.avi"),
    {
        "classInd__txt": "1 Archery\r\n2 Push Up\r\n",
        "trainlist01__txt": "Archery/v_Archery_g08.avi 1\r\nPush Up/v_Push_g08.avi 2\r\n",
        "testlist01__txt": "Archery/v_Archery_g01.avi\r\nPush Up/v_Push_g01.avi\r\n",
        "trainlist02__txt": "Archery/v_Archery_g01.avi 1\n",
        "testlist02__txt": "Push Up/v_Push_g08.avi\nPush Up/v_Push_g99.avi\n",
    },
    {
        "train1": {"Archery/v_Archery_g08.avi": "Archery", "v_Push_g08.mp4": "Push Up"},
        "test1": {"Archery/v_Archery_g01.avi": "Archery", "Push Up/v_Push_g01.avi": "Push Up"},
        "train2": {"Archery/v_Archery_g01.avi": "Archery"},
        "test2": {"v_Push_g08.mp4": "Push Up"},
    },
    ("listed, but not there, left out: 1 (Push Up/v_Push_g99.avi)",),
)  # fmt: skip
HMDB51 = Published(
    ("brush_hair/a#1.avi", "brush_hair/b.avi", "wave/a.avi", "wave/b.avi", "wave/c.avi"),
    {
        "brush_hair_test_split1__txt": "a#1.avi 1 \nb.avi 2 \n",
        "wave_test_split1__txt": "a.avi 2 \nb.avi 1 \nc.avi 0 \n",
        "brush_hair_test_split2__txt": "a#1.avi 2 \nb.avi 1 \n",
        "wave_test_split2__txt": "a.avi 1 \nb.avi 2 \nc.avi 0 \n",
    },
    {
        "train1": {"brush_hair/a#1.avi": "brush_hair", "wave/b.avi": "wave"},
        "test1": {"brush_hair/b.avi": "brush_hair", "wave/a.avi": "wave"},
        "train2": {"brush_hair/b.avi": "brush_hair", "wave/a.avi": "wave"},
        "test2": {"brush_hair/a#1.avi": "brush_hair", "wave/b.avi": "wave"},
    },
    ("split 1: 1 videos in neither list",),
)
HEAD = "label,youtube_id,time_start,time_end,split,is_cc\n"
KINETICS = Published(
    ("train/playing, outside/-a_b_000001_000011.mp4", "train/abseiling/xyz_000010_000020.mp4",
     "val/xyz_000005_000015.mkv", "replacement/xyz_000010_000020.mp4"),
    {
        "train__csv": f'{HEAD}"playing, outside",-a_b,1,11,train,0\nabseiling,xyz,10,20,train,0\n',
        "validate__csv": f"{HEAD}abseiling,xyz,5,15,validate,0\nabseiling,gone,5,15,Valid,0\n",
        "test__csv": f"{HEAD},xyz,7,17,test,0\n",
        "readme__csv": "unrelated,table\n1,2\n",
    },
    {
        "train": {"train/playing, outside/-a_b_000001_000011.mp4": "playing, outside",
                  "replacement/xyz_000010_000020.mp4": "abseiling"},
        "val": {"val/xyz_000005_000015.mkv": "abseiling"},
    },
    ("not there, left out: 1 (gone_000005_000015)", "1 rows without a label"),
)  # fmt: skip
SSV2 = Published(
    ("1.webm", "2.webm", "3.webm"),
    {
        "labels__json": '{"Moving something left": "1", "Holding something": "0"}',
        "train__json": '[{"id": "1", "label": "holding a cup", "template": "Holding [something]"},'
        ' {"id": "2", "label": "moving pen left", "template": "Moving [something] left"}]',
        "validation__json": '[{"id": "3", "label": "x", "template": "Holding [something]"}]',
        "test__json": '[{"id": "9"}]',
    },
    {
        "train": {"1.webm": "Holding something", "2.webm": "Moving something left"},
        "val": {"3.webm": "Holding something"},
    },
    ("1 entries without a template",),
)
MMACTION2 = Published(
    ("a b/x y.mp4", "wave/z.mp4"),
    {
        "own_train_list_videos__txt": "a b/x y.mp4 0\nwave/z.mp4 1\n",
        "own_val_list_videos__txt": "wave/z.mp4 1\n",
        "label_map_own__txt": "100 metres\nwaving\n",
    },
    {
        "train": {"a b/x y.mp4": "100 metres", "wave/z.mp4": "waving"},
        "val": {"wave/z.mp4": "waving"},
    },
)
FORMS: dict[Form, Published] = {
    "ucf101": UCF101, "hmdb51": HMDB51, "kinetics": KINETICS, "ssv2": SSV2, "mmaction2": MMACTION2,
}  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_recognised_and_read(form: Form, named: bool, tmp_path: Path) -> None:
    given = FORMS[form]
    videos = empty_videos(tmp_path / "videos", given.videos)
    lists = write(tmp_path / "lists", **given.lists)
    written = init(Request(videos, to=tmp_path, lists=(lists,), form=form if named else None))
    assert content(written) == given.expected
    for note in given.notes:
        assert note in "\n".join(written.notes)
    assert read_own(written.file).dataset.flip is (form != "ssv2")


def test_tabs_spaces_and_capitals(tmp_path: Path) -> None:
    empty_videos(tmp_path / "h", ["nod/1.avi"])
    lists = write(tmp_path / "lists", nod_test_split1__txt="1.avi\t2 \n")
    assert content(init(Request(tmp_path / "h", lists=(lists,)))) == {"test1": {"nod/1.avi": "nod"}}
    empty_videos(tmp_path / "k", ["a_000001_000011.mp4"])
    head = "Label , YouTube_ID, Time_Start, Time_End, Split"
    table = write(tmp_path / "table", val__csv=f'{head}\n"nod, twice", a, 1, 11, validate\n')
    written = init(Request(tmp_path / "k", lists=(table,)))
    assert content(written) == {"val": {"a_000001_000011.mp4": "nod, twice"}}


def test_frame_folders_and_labels_of_mmaction2(tmp_path: Path) -> None:
    empty_videos(tmp_path / "videos", [f"wave/v 1/img_{i:05}.jpg" for i in range(1, 4)])
    empty_videos(tmp_path / "videos", [f"wave/v 1/flow_x_{i:05}.jpg" for i in range(1, 4)])
    empty_videos(tmp_path / "videos", [f"nod/2/{i}.png" for i in range(5)])
    lists = write(tmp_path / "lists", own_test_split_1_rawframes__txt="wave/v 1 3 1\nnod/2 6 0\n")
    written = init(Request(tmp_path / "videos", to=tmp_path, lists=(lists,)))
    assert content(written) == {"test1": {"wave/v 1": "wave", "nod/2": "nod"}}
    assert "not as many frames as listed, all are read: 1 (nod/2)" in written.notes


def test_a_list_and_names_are_enough(tmp_path: Path) -> None:
    empty_videos(tmp_path / "videos", ["1.mp4", "2.mp4"])
    write(tmp_path, mine__txt="1.mp4 0\n2.mp4 2\n", test__txt="1.mp4 0\n2.mp4 2\n",
          n__txt="0 wave\n1 nod\n2 bow\n")  # fmt: skip
    asked = Request(tmp_path / "videos", lists=(tmp_path / "test.txt",), names=tmp_path / "n.txt")
    written = init(asked)
    assert content(written) == {"test": {"1.mp4": "wave", "2.mp4": "bow"}}
    assert "3 classes, no list has a video of 1 (nod)" in written.notes


def test_files_that_are_not_read_are_said(tmp_path: Path) -> None:
    empty_videos(tmp_path / "videos", ["a/1.mp4", "b/2.mp4"])
    lists = write(
        tmp_path / "lists", TEST__TXT="a\\1.mp4 0\nb\\2.mp4 1\n", fold1__txt="a/1.mp4 0\n"
    )
    written = init(Request(tmp_path / "videos", lists=(lists,)))
    assert content(written) == {"test": {"a/1.mp4": "a", "b/2.mp4": "b"}}
    assert (
        "not read, no list of mmaction2 " in written.notes[0] and "(fold1.txt)" in written.notes[0]
    )
    named = (lists / "TEST.TXT", lists / "fold1.txt")
    with pytest.raises(UserError, match=r"--lists .*fold1.txt was not read: mmaction2's lists are"):
        init(Request(tmp_path / "videos", lists=named, force=True))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2 c\n0 a b\n1 b\n", ["a b", "b", "c"]), ("3: c\n1: a\n2: b\n", ["a", "b", "c"]),
        ("c 2\na b 0\nb\t1\n", ["a b", "b", "c"]), ("id name\n1 b\n0 a\n", ["a", "b"]),
        ("name,id\nb,1\na,0\n", ["a", "b"]), ("100 metres\n200 metres\nrest\n", None),
        ("level 1\nlevel 2\n", None), ("5 a\nb\nc\n", None),
    ],
)  # fmt: skip
def test_numbered_names(text: str, names: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text)
    assert read_names(tmp_path / "names.txt") == (names or text.splitlines())


@pytest.mark.parametrize("text", ["0 a\nb\n2 c\n", "0 a\n1 b\n3 c\n", "a 0\nb 1\nc 1\n"])
def test_names_that_are_numbered_with_gaps(text: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError, match=r"lines are numbered \(0, .*give the names as CSV"):
        read_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"classInd__txt": "1 a\n", "trainlist01__txt": "a/1.mp4 2\n"}, "does not agree with"),
        ({"classInd__txt": "1 b\n", "testlist01__txt": "a/1.mp4\n"}, "does not agree with"),
        ({"a_test_split1__txt": "1.mp4 3\n"}, "is not `video.avi 0`, 1 or 2"),
        ({"train__csv": "label,youtube_id,time_start,time_end\na,x,one,2\n"}, "one and 2 as"),
        ({"train__csv": "label,youtube_id,time_start,time_end\na,x,1,inf\n"}, "1 and inf as"),
        ({"train__csv": "label,youtube_id,time_start,time_end\na,x,1\n"}, "1 and nothing as"),
        ({"train__csv": "label,youtube_id,time_start,time_end\na,x,1,2\n"}, "none of the listed"),
        ({"train__csv": f"{HEAD}a,x,1,2,held out,0\n"}, "split 'held out'; known: train, "),
        ({"labels__json": '{"a": "1"}', "train__json": "[]"}, "are not 0 to n-1"),
        ({"labels__json": '{"a": "0"}', "train__json": '[{"id": 1, "template": "b"}]'}, "no templ"),
        ({"labels__json": "{"}, "is not JSON"),
        ({"labels__json": '{"a": "x"}', "train__json": "[]"}, "labels.json: the ids .* not 0 to"),
        (
            {"labels__json": '{"a": "0"}', "train__json": '[{"template": "a"}]'},
            "json: .* no id",
        ),
        ({"labels__json": '{"a": "0"}', "train__json": "[]"}, "the lists name no video"),
        ({"train__txt": "\n"}, "no line in .*train.txt"),
        ({"train__txt": "a/1.mp4 zero\n"}, "neither `video label` nor"),
        ({"train__txt": "a/1.mp4 0 1\n"}, "neither `video label` nor"),
        ({"train__txt": "1.mp4 0\n"}, "give a file with --names"),
        ({"train__txt": "a/1.mp4 0\n", "label_map__txt": "\n"}, "0 names, but there is a label 0"),
        ({"train__txt": "a/1.mp4 1\n", "label_map__txt": "a\n"}, "a label 1; are .* from 1?"),
        ({"train__txt": "a/1.mp4 0\n", "classes__txt": "name\nwave\n"}, "'name', looks like a he"),
        ({"train__txt": "a/1.mp4 1\n"}, "with --names; are the labels counted from 1"),
        ({"train_a__txt": "a/1.mp4 0\n", "train_b__txt": "a/1.mp4 0\n"}, "are both for train"),
        ({"some__txt": "a/1.mp4 0\n"}, "no list whose name says train, val or test"),
        ({"some__xml": "<a/>"}, "not the lists of any form that is known: mmaction2, kinetics"),
    ],
)
def test_lists_that_are_wrong(files: dict[str, str], message: str, tmp_path: Path) -> None:
    empty_videos(tmp_path / "videos", ["a/1.mp4"])
    lists = write(tmp_path / "lists", **files)
    with pytest.raises(UserError, match=message):
        init(Request(tmp_path / "videos", lists=(lists,)))
    assert not (tmp_path / "videos" / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("kinetics400_train_list_videos", "train"), ("hmdb51_val_split_2_rawframes", "val2"),
        ("k400val", "val"), ("latest_train", "train"), ("Validation", "val"), ("test01", "test1"),
        ("something-something-v2-validation", "val"), ("testlist_3", "test3"), ("interval", None),
    ],
)  # fmt: skip
def test_splits_are_told_by_the_names_of_lists(name: str, split: str | None) -> None:
    assert split_name(Path(f"{name}.txt")) == split


@pytest.mark.parametrize(
    ("files", "listed", "found", "note"),
    [
        # A file answers its own entry, in any order; "B/1.mp4" is not there.
        (["A/1.mp4"], "A/1.mp4 0\nB/1.mp4 1\n", {"A/1.mp4": "a"}, "there, left out: 1 (B/1.mp4)"),
        (["A/1.mp4"], "B/1.mp4 1\nA/1.mp4 0\n", {"A/1.mp4": "a"}, "there, left out: 1 (B/1.mp4)"),
        (["A/1.mp4"], "d/B/1.avi 1\nd/A/1.avi 0\n", {"A/1.mp4": "a"}, "out: 1 (d/B/1.avi)"),
        (["A/1.mp4"], "A/1.avi 1\nA/1.mp4 0\n", {"A/1.mp4": "a"}, "out: 1 (A/1.avi)"),
        # Which of two it is, nothing tells.
        (["A/1.mp4", "z/2.mp4"], "B/1.mp4 1\nC/1.mp4 0\nz/2.mp4 0\n", {"z/2.mp4": "a"},
         "several files or entries have the name: 2 (B/1.mp4, C/1.mp4)"),
        # The listed folders tell which of several files is meant.
        (["x/A/1.mp4", "x/B/1.mp4"], "A/1.mp4 0\nB/1.avi 1\n",
         {"x/A/1.mp4": "a", "x/B/1.mp4": "b"}, "found by name: 1 (B/1.avi: x/B/1.mp4)"),
        (["x/q.mp4", "y/Q.mp4"], "Q.mp4 0\nq.mp4 1\n", {"y/Q.mp4": "a", "x/q.mp4": "b"}, ""),
        (["aBc.mp4"], "abc.mp4 1\naBc.mp4 0\n", {"aBc.mp4": "a"}, "out: 1 (abc.mp4)"),
        (["v/1.mp4"], "./v/1.mp4 0\n", {"v/1.mp4": "a"}, ""),
    ],
)  # fmt: skip
def test_a_file_answers_one_entry(
    files: list[str], listed: str, found: dict[str, str], note: str, tmp_path: Path
) -> None:
    empty_videos(tmp_path / "videos", files)
    lists = write(tmp_path / "lists", train__txt=listed, label_map__txt="a\nb\n")
    written = init(Request(tmp_path / "videos", to=tmp_path / "to", lists=(lists,)))
    assert content(written) == {"train": found}
    assert note in "\n".join(written.notes)
    assert note or not any("by name" in one or "left out" in one for one in written.notes)
