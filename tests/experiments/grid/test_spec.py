"""A run is known by the content of a user's own lists; a published list, by its name."""

from pathlib import Path

import pytest

from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from tests.experiments.planning.lists import own_specs, write_own


def run_id(folder: Path, **files: str) -> str:
    (spec,) = own_specs(write_own(folder, **files))
    return spec.run_id


CHANGES = {
    "a label": {"val": "e.mp4 1\nf.mp4 1\n"},
    "swapped labels": {"train": "a.mp4 1\nb.mp4 0\nc.mp4 0\nd.mp4 1\n"},
    "a video": {"val": "e.mp4 0\ng.mp4 1\n"},
    "the order": {"train": "b.mp4 1\na.mp4 0\nc.mp4 0\nd.mp4 1\n"},
    "a class name": {"labels": "id,name\n0,push\n1,pull up\n"},
    "swapped names": {"labels": "id,name\n0,pull\n1,push\n"},
    "a capital letter": {"labels": "id,name\n0,Push\n1,pull\n"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_of_the_same_size_is_another_run(tmp_path: Path, change: str) -> None:
    assert run_id(tmp_path / "a") != run_id(tmp_path / "b", **CHANGES[change])


@pytest.mark.parametrize(
    "files",
    [
        {"val": "e.mp4 0\r\nf.mp4 1\r\n"},
        {"val": "\ufeff\ne.mp4   0\n\n  f.mp4\t1"},
        {"labels": 'id,name\r\n1,"pull"\r\n0,push\r\n'},
        {"labels": "0,push\n1,pull\n"},
    ],
)
def test_the_same_content_written_otherwise_and_elsewhere_is_the_same_run(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert run_id(tmp_path / "a") == run_id(tmp_path / "b" / "c", **files)


def test_what_the_files_are_called_does_not_matter(tmp_path: Path) -> None:
    yaml = write_own(tmp_path)
    (before,) = own_specs(yaml)
    (tmp_path / "train.txt").rename(tmp_path / "other.txt")
    yaml.write_text(yaml.read_text().replace("train.txt", str(tmp_path / "other.txt")))
    (after,) = own_specs(yaml)
    assert after.train_list.split.annotations != before.train_list.split.annotations
    assert after.run_id == before.run_id


def test_what_is_not_trained_does_not_depend_on_what_is_trained_on(tmp_path: Path) -> None:
    (before,) = own_specs(write_own(tmp_path / "a"), models=("clip",))
    (other,) = own_specs(write_own(tmp_path / "b", **CHANGES["swapped labels"]), models=("clip",))
    assert before.run_id == other.run_id
    (other,) = own_specs(write_own(tmp_path / "c", **CHANGES["a label"]), models=("clip",))
    assert before.run_id != other.run_id


def test_the_digests_are_kept_with_the_spec_and_published_lists_have_none(tmp_path: Path) -> None:
    (spec,) = own_specs(write_own(tmp_path))
    text = spec.model_dump_json()
    assert text.count('"digest":"') == 3
    again = RunSpec.model_validate_json(text)
    assert (again, again.run_id) == (spec, spec.run_id)
    for published in expand(Grid("few_shot", models=("tc_clip", "clip"))):
        assert "digest" not in published.model_dump_json()
