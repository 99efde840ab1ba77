"""The code's commit, from a checkout or from what the image was built with."""

import subprocess
from pathlib import Path

import pytest

from experiments.worker import provenance
from experiments.worker.provenance import git_state


def test_a_checkout_says_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(provenance.__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not in a checkout")
    monkeypatch.setenv(provenance.COMMIT, "of another place")
    git_state.cache_clear()
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert git_state()[0] == head


@pytest.mark.parametrize(("given", "commit"), [("c" * 40, "c" * 40), ("", None), (None, None)])
def test_an_image_says_what_it_was_built_from(
    given: str | None, commit: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "experiments" / "worker" / "provenance.py")
    )
    monkeypatch.delenv(provenance.COMMIT, raising=False)
    if given is not None:
        monkeypatch.setenv(provenance.COMMIT, given)
    git_state.cache_clear()
    assert git_state() == (commit, None)
    git_state.cache_clear()
