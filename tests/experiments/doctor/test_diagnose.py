"""`tcclip doctor` as a whole: a broken machine, checks that hang, what is shown."""

import json
import threading
import time
from pathlib import Path

import pytest

from experiments import doctor
from experiments.datasets.paths import DataPaths
from experiments.doctor import Finding, data, machine, probes
from experiments.errors import UserError
from tests.experiments.doctor.network import closed_port


def test_a_broken_machine_is_named_with_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No decoder, a bad root, a dead MLflow, no GPU, Ray gone: all found in one go."""
    broken = "raise ImportError('No module named decord')"
    monkeypatch.setattr(data, "DECORD", broken)
    monkeypatch.setattr(data, "PYAV", "import os; os.abort()")
    monkeypatch.setattr(machine, "TORCH", "raise OSError('libcudart.so is not there')")
    monkeypatch.setattr(data, "WEIGHTS", "print('[\"timm/weights\"]')")
    data_paths = DataPaths(cache=tmp_path / "cache", videos=tmp_path / "gone", annotations=tmp_path)
    server = f"http://127.0.0.1:{closed_port()}"
    cluster = f"127.0.0.1:{closed_port()}"
    findings = doctor.diagnose(
        lambda: data_paths, str(tmp_path / "out"), lambda out: server, cluster
    )
    found = {one.name: one for one in findings}
    bad = {"decord", "PyAV", "GPU", "annotations", "videos", "MLflow", "Ray"}
    assert bad <= {name for name, one in found.items() if one.ok is False}
    assert found["Python"].ok and found["packages"].ok and found["output folder"].ok
    assert "No module named decord" in found["decord"].detail
    assert "SIGABRT" in found["PyAV"].detail
    assert "libcudart.so" in found["GPU"].detail
    assert str(tmp_path / "gone") in found["videos"].detail
    assert server in found["MLflow"].detail
    assert cluster in found["Ray"].detail
    assert all(one.remedy for one in findings if one.ok is False)
    assert doctor.exit_code(findings) == 1
    doctor.show(findings, "terminal")
    text = capsys.readouterr().out
    assert all(one.detail in text and one.remedy in text for one in findings)


def test_a_config_file_that_cannot_be_used_is_one_finding(tmp_path: Path) -> None:
    def find() -> DataPaths:
        raise UserError("config.yaml: folderz: not known")

    findings = doctor.diagnose(find, str(tmp_path), lambda out: f"sqlite:///{out}/m.db", None)
    assert (findings[0].name, findings[0].ok) == ("configuration", False)
    assert "folderz" in findings[0].detail
    assert {"Python", "MLflow", "videos"} <= {one.name for one in findings}


def test_no_check_stops_another_or_hangs() -> None:
    stuck = threading.Event()

    def hang() -> list[Finding]:
        stuck.wait(60)
        return []

    def fail() -> list[Finding]:
        raise OSError(5, "Input/output error")

    begin = time.monotonic()
    findings = probes.run_all(
        {"first": hang, "second": fail, "third": lambda: [Finding("third", True, "fine")]}, 0.3
    )
    stuck.set()
    assert time.monotonic() - begin < 5
    assert [(one.name, one.ok) for one in findings] == [
        ("first", False), ("second", False), ("third", True)
    ]  # fmt: skip
    assert findings[0].detail == "no answer within 0.3 s"
    assert "Input/output error" in findings[1].detail
    assert findings[0].remedy and findings[1].remedy


def test_a_probe_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.3)
    finding = data.decoder("decord", "import time; time.sleep(60)", "install it")
    assert finding.ok is False
    assert "no answer within 0.3 s, stopped" in finding.detail


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding("one", True, "with [brackets] and a | bar"),
        Finding("two", False, "broken", "repair it"),
        Finding("three", None, "not there"),
    ]
    doctor.show(findings, "json")
    shown = json.loads(capsys.readouterr().out)
    assert [one["ok"] for one in shown] == [True, False, None]
    assert shown[1]["remedy"] == "repair it"
    doctor.show(findings, "md")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == r"| one | ok | with [brackets] and a \| bar |  |"
    assert lines[3] == "| two | BROKEN | broken | repair it |"
    doctor.show(findings, "terminal")
    text = capsys.readouterr().out
    assert "with [brackets] and a | bar" in text
    assert "two: repair it" in text
    assert doctor.exit_code(findings) == 1
    assert doctor.exit_code([findings[0], findings[2]]) == 0
