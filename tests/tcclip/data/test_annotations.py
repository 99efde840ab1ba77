from __future__ import annotations

from pathlib import Path

import pytest

from protocols.datasets import DATASETS
from tcclip.data.annotations import Item, read_all_names, read_class_names, read_list
from tcclip.text_files import FileError


def _written(tmp_path: Path, text: str, name: str = "list.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text", ["{0} 0\n{1} 12\n", "{0} 0\r\n{1} 12", "\ufeff{0} 0\n\n{1} 12\n\n", "{0} 0\n{1}\t 12"]
)
def test_line_ends_and_empty_lines(tmp_path: Path, text: str) -> None:
    names = "a b  (1)_#2,'c'&-.mp4", "c/d 3.avi"
    expected = [Item(names[0], 0), Item(names[1], 12)]
    assert read_list(_written(tmp_path, text.format(*names))) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("only_a_path.mp4", "is not `relative/path label`"),
        ("a.mp4 wave", "label 'wave' is not a class id"),
        ("a.mp4 -1", "label '-1' is not a class id"),
        ("a.mp4 5", "has ids 0 to 4; are the labels counted from 1?"),
        ("a.mp4 6", "label 6 is out of range; the class list has ids 0 to 4"),
        ("/a.mp4 1", "leaves the video folder"),
        ("../a.mp4 1", "leaves the video folder"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = _written(tmp_path, f"fine.mp4 0\n{line}\n")
    with pytest.raises(FileError) as error:
        read_list(path, classes=5)
    assert f"{path}:2" in str(error.value)
    assert message in str(error.value)


def test_class_names(tmp_path: Path) -> None:
    quoted = 'id,name\n1,"b, c"\n0, a \n2,d,\n'
    assert read_class_names(_written(tmp_path, quoted, "l.csv"), 3) == ["a", "b, c", "d"]
    assert read_class_names(_written(tmp_path, '{"1": "b", "0": "a"}', "l.json")) == ["a", "b"]


def test_classes_with_several_names(tmp_path: Path) -> None:
    path = _written(tmp_path, '{"1": "b", "0": ["a", " c ", "a"]}', "l.json")
    assert read_all_names(path, 2) == [("a", "c"), ("b",)]
    assert read_class_names(path, 2) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "id,name,note\n0,play ball,sport\n1,pitch,sport\n",
        "Note, NAME ,Id\nsport,play ball,0\n,pitch,1\n",
        "name,id\nplay ball,0\npitch,1\n",
        "id,class\n0,play ball\n1,pitch\n",
        "0,play ball\n1,pitch\n",
    ],
)
def test_the_column_of_names_is_found_by_the_header(tmp_path: Path, text: str) -> None:
    assert read_class_names(_written(tmp_path, text, "labels.csv")) == ["play ball", "pitch"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\n0,a\n1,b, c\n", "has 3 columns, where 2 are expected. Put a name with a comma"),
        ("id,name\n0,a\n1,b, c\n", 'in quotes (1,"b, c")'),
        ("0,play ball,sport\n1,pitch,sport\n", "or name the columns in a first line: id,name,..."),
        ("id,title,note\n0,a,b\n1,c,d\n", "call the column of the names `name`"),
        ("id,name,note\n0,a, b, c\n1,c,d\n", "has 4 columns, where 3 are expected"),
        ("id,note,name\n0,a\n", "is not `id,name`"),
        ("id,name\n0,a\n2,b\n", "ids must be 0 to n-1; 2 names, missing [1]"),
        ("id,name\n0,a\n0,b\n", "class id 0 is given twice"),
        ("id,name\nx,a\n", "class id 'x' is not a whole number"),
        ("id,name\n0, \n", "class 0 has no name"),
        ("id,name\n0\n", "is not `id,name`"),
        ("id,name\n0;a\n1;b\n", "is not `id,name`"),
        ("id,name\n", "0 names"),
        ("id,name\n0,a\n", "1 classes where 2 are expected"),
    ],
)
def test_a_malformed_class_list_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError) as error:
        read_class_names(_written(tmp_path, text, "labels.csv"), 2)
    assert message in str(error.value)
    assert "labels.csv" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"0": 1}',
        '{"0": "a", "0": "b"}',
        '{"0": []}',
        '{"0": ["a", ""]}',
        '{"0": ["a", 1]}',
    ],
)
def test_malformed_json_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileError, match=r"labels\.json"):
        read_class_names(_written(tmp_path, text, "labels.json"))


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff\r\n"])
def test_a_list_without_a_video(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileError, match=r"list\.txt lists no video"):
        read_list(_written(tmp_path, text))


def test_a_list_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="is not UTF-8 text"):
        read_list(path)


@pytest.mark.parametrize("name", [name for name, one in DATASETS.items() if not one.embedded])
def test_published_lists_match_the_protocols(published_annotations: Path, name: str) -> None:
    dataset = DATASETS[name]
    for split in dataset.splits:
        path = published_annotations / split.annotations
        if path.exists():
            items = read_list(path, dataset.labels(split.labels).classes)
            assert split.videos in (None, len(items)), split.name
    for labels in dataset.label_sets:
        for file in filter(None, (labels.file, labels.llm)):
            assert len(read_class_names(published_annotations / file)) == labels.classes


def test_ids_from_1_and_a_suffix_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "L.JSON").write_text('{"0": "wave", "1": "nod"}')
    assert read_class_names(tmp_path / "L.JSON") == ["wave", "nod"]
    (tmp_path / "l.csv").write_text("id,name\n1,wave\n2,nod\n")
    with pytest.raises(FileError, match=r"missing \[0\]; are they counted from 1\?"):
        read_class_names(tmp_path / "l.csv")
