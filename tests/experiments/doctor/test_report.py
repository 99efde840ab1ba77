"""`tcclip doctor` as a whole: a broken machine, checks that hang or crash, the formats."""

import json
import threading
import time
from pathlib import Path

import pytest

from experiments import doctor, processes
from experiments.datasets.paths import DataPaths
from experiments.doctor import Finding, checks, report
from experiments.errors import UserError


def test_a_broken_machine_is_described_with_remedies(
    tmp_path: Path,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No decoder, a wrong data root, no MLflow, no torch, no Ray: all found in one call."""
    monkeypatch.setattr(checks, "DECORD", "raise ImportError('No module named decord')")
    monkeypatch.setattr(checks, "PYAV", "import os; os.abort()")
    monkeypatch.setattr(checks, "TORCH", "raise OSError('libcudart.so is not there')")
    monkeypatch.setattr(checks, "MLFLOW", "raise OSError('Connection refused')")
    paths = DataPaths(cache=tmp_path / "cache", videos=tmp_path / "gone", annotations=tmp_path)
    server, cluster = f"http://127.0.0.1:{closed_port}", f"127.0.0.1:{closed_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    findings = doctor.diagnose(lambda: paths, str(tmp_path / "out"), cluster)
    found = {one.name: one for one in findings}
    bad = {"PyAV", "GPU", "annotations", "videos", "MLflow", "Ray"}
    assert bad <= {name for name, one in found.items() if one.ok is False}
    assert found["packages"].ok and found["output folder"].ok
    assert found["decord"].ok is None and "No module named decord" in found["decord"].detail
    assert found["decoded frames"].ok and "cache/frames, up to" in found["decoded frames"].detail
    assert "SIGABRT" in found["PyAV"].detail
    assert "libcudart.so" in found["GPU"].detail
    assert str(tmp_path / "gone") in found["videos"].detail
    assert server in found["MLflow"].detail and "Connection refused" in found["MLflow"].detail
    assert cluster in found["Ray"].detail
    assert all(one.remedy for one in findings if one.ok is False)
    assert doctor.exit_code(findings) == 1
    doctor.show(findings, "terminal")
    text = capsys.readouterr().out
    assert all(one.detail in text and one.remedy in text for one in findings)


def test_wrong_settings_are_findings_and_the_other_checks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> DataPaths:
        raise UserError("config.yaml: folderz: not known")

    def fail(*_: object, **__: object) -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(processes.subprocess, "run", fail)
    config, out, *others = doctor.diagnose(find, "nowhere://bucket/out", None)
    assert (config.name, config.ok) == ("configuration", False) and "folderz" in config.detail
    assert (out.name, out.ok) == ("output folder", False) and "s3://BUCKET/FOLDER" in out.remedy
    assert {"packages", "videos", "Ray"} <= {one.name for one in others}


def test_no_check_stops_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "CHECK_SECONDS", 0.3)
    stuck = threading.Event()

    def hang() -> Finding:
        stuck.wait(60)
        return Finding("first", True, "too late")

    def fail() -> Finding:
        raise OSError(5, "Input/output error")

    def refuse() -> Finding:
        raise UserError("no such address; correct it")

    begin = time.monotonic()
    listed: dict[str, report.Check] = {
        "first": hang, "second": fail, "third": refuse,
        "fourth": lambda: [Finding("fourth", True, "fine")],
    }  # fmt: skip
    first, second, third, fourth = report.run_checks(listed)
    stuck.set()
    assert time.monotonic() - begin < 5
    assert (first.ok, first.detail) == (False, "no answer within 0.3 s") and first.remedy
    assert second.ok is False and "Input/output error" in second.detail and second.remedy
    assert third == Finding("third", False, "no such address", "correct it")
    assert fourth.ok


def test_a_process_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROCESS_SECONDS", 0.3)
    finding = checks.decoder("decord", "import time; time.sleep(60)", "install it")
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
