"""Where Ray is: option, environment, a cluster on this machine, or one of the sweep's own."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.cluster import find_ray, joining, place
from experiments.doctor import checks
from experiments.doctor.report import Finding, run_checks
from experiments.processes import ProcessFailed
from tests.experiments.cluster.heads import SETTINGS, greeting

LONG = "x" * 60


def doctor(address: str | None = None) -> Finding:
    (finding,) = run_checks({"Ray": lambda: checks.ray(address)})
    return finding


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder, in which Ray keeps the address of a cluster on this machine."""
    with tempfile.TemporaryDirectory(prefix="ray-b", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setattr(place, "_raylets", list)
        (Path(folder) / "ray").mkdir()
        yield Path(folder)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were joined: attempts to join succeed."""
    addresses: list[str] = []

    def run(code: str, address: str, **_: object) -> tuple[int, int, int, str]:
        addresses.append(address)
        return 2, 8, 1, "disabled"

    monkeypatch.setattr(joining, "run_python", run)
    return addresses


@pytest.mark.parametrize(
    ("option", "variable", "here", "expected"),
    [
        (None, None, False, "one on this machine for the sweep alone"),
        (None, None, True, "the cluster on this machine, HERE: 2 nodes, 8 CPUs, 1 GPU (--address"),
        (None, "OTHER", True, "the cluster at OTHER (RAY_ADDRESS): 2 nodes, 8 CPUs, 1 GPU"),
        (None, "auto", True, "the cluster on this machine, HERE:"),
        (None, "local", True, "one on this machine for the sweep alone"),
        ("HERE", "OTHER", False, "the cluster at HERE (--address):"),
        ("auto", None, True, "the cluster on this machine, HERE:"),
        ("auto", "OTHER", True, "the cluster at OTHER (RAY_ADDRESS):"),
        ("local", "OTHER", True, "one on this machine for the sweep alone"),
    ],
)
def test_the_first_of_option_environment_and_machine_says_where_ray_is(
    option: str | None, variable: str | None, here: bool, expected: str, base: Path,
    joined: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with greeting(SETTINGS) as one, greeting(SETTINGS) as other:
        names = {"HERE": one, "OTHER": other, "auto": "auto", "local": "local", None: None}
        if variable is not None:
            monkeypatch.setenv("RAY_ADDRESS", str(names[variable]))
        if here:
            (base / "ray" / "ray_current_cluster").write_text(one)
        found = doctor(names[option])
    expected = expected.replace("HERE", one).replace("OTHER", other)
    assert found.ok is True and found.detail.startswith(expected), found
    assert joined == [address for address in (one, other) if address in expected]


@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:port", "give HOST:6379, auto or local"),
        ("127.0.0.1:99999", "give HOST:6379, auto or local"),
        ("me@host:6379", "give HOST:6379, auto or local"),
        ("host/path", "give HOST:6379, auto or local"),
        ("http://127.0.0.1:8265", "is of a dashboard or none of Ray's"),
        ("ray://head:10001", "start the sweep on a node of the cluster, with --address auto"),
        ("CLOSED", "cannot be reached"),
        ("SILENT", "cannot be reached (timed out)"),
        ("WEB", "cannot be reached (another program than Ray listens there)"),
        ("auto", "auto: this machine has no Ray cluster"),
    ],
)
def test_a_sweep_and_doctor_refuse_alike_what_is_no_cluster(
    address: str, message: str, variable: bool, base: Path, closed_port: int,
    monkeypatch: pytest.MonkeyPatch, tcclip: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    monkeypatch.setattr(joining, "CONNECT_SECONDS", 0.3)
    with greeting(b"") as silent, greeting(b"HTTP/1.1 400 Bad Request\r\n") as web:
        made = {"CLOSED": f"127.0.0.1:{closed_port}", "SILENT": silent, "WEB": web}
        address = made.get(address, address)
        if variable:
            monkeypatch.setenv("RAY_ADDRESS", address)
        option = () if variable else ("--address", address)
        code, _, error = tcclip("sweep", "zero_shot", "--demo", "--out", base / "out", *option)
        assert code == 2
        found = doctor(None if variable else address)
    said = " ".join(error.split())
    source = "RAY_ADDRESS" if variable else "--address"
    assert message in said and source in said and address in said
    assert found.ok is False and f"tcclip: {found.detail}; {found.remedy}" == said
    assert not (base / "out").exists()


def test_what_others_left_on_this_machine_is_not_joined(
    base: Path, closed_port: int, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = base / "ray" / "ray_current_cluster"
    file.write_text(f"127.0.0.1:{closed_port}\n")
    assert "does not answer" in doctor().detail and "files in" in doctor().detail
    assert "does not answer" in doctor("auto").detail and doctor("auto").ok is False
    with greeting(SETTINGS) as address:
        file.write_text(address)
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        monkeypatch.setattr(place, "_ROOT", 4322)
        assert "belongs to another user" in doctor().detail
        monkeypatch.setattr(os, "geteuid", os.getuid)
        file.rename(base / "kept")
        file.symlink_to(base / "kept")
        assert "the sweep alone" in doctor().detail
        file.unlink()
        os.mkfifo(file)
        assert "belongs to another user" in doctor().detail
    assert not joined


def test_auto_finds_a_cluster_whose_folder_is_elsewhere(
    base: Path, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with greeting(SETTINGS) as address:
        monkeypatch.setattr(place, "_raylets", lambda: [address])
        assert doctor("auto").ok is True and joined == [address]
        monkeypatch.setattr(place, "_raylets", lambda: [address, "10.0.0.1:6379"])
        assert (
            f"several Ray clusters run on this machine, {address}, 10.0.0.1:6379"
            in doctor("auto").detail
        )
        assert "the sweep alone" in doctor().detail


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "gcs_client.cc:210: Failed to get cluster ID from GCS server: Unauthenticated: RPC "
            "error: InvalidAuthToken: Authentication token is missing or incorrect",
            "its token is missing here or another one; set RAY_AUTH_TOKEN",
        ),
        (
            "AuthenticationError: Token authentication is enabled but no authentication token was "
            "found. Ensure that",
            "its token is missing here or another one; set RAY_AUTH_TOKEN",
        ),
        (
            "RAY_AUTH_MODE=token is set, and the cluster is one of RAY_AUTH_MODE=disabled",
            "RAY_AUTH_MODE=token is set, and the cluster is one of RAY_AUTH_MODE=disabled; unset",
        ),
        (
            "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.9.0",
            "another version of Ray or Python (Version mismatch",
        ),
        (
            "what(): Failed opening file /tmp/ray/x.log for writing: Permission denied /_raylet.so",
            "it belongs to another user of this machine",
        ),
        ("RuntimeError: No node info found matching attributes", "this machine is no node of it"),
        ("KeyError: what nobody thought of", "KeyError: what nobody thought of; the head's log"),
    ],
)
def test_why_a_cluster_cannot_be_joined(
    said: str, message: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise ProcessFailed(said, f"Traceback\n  line\n{said}\n")

    monkeypatch.setattr(joining, "run_python", run)
    with greeting(SETTINGS) as address:
        found = doctor(address)
        assert found.ok is False and message in f"{found.detail}; {found.remedy}"
        (base / "ray" / "ray_current_cluster").write_text(address)
        left_alone = doctor()
        assert left_alone.ok is None and message in left_alone.detail, "nobody asked for it"
        assert left_alone.detail.startswith("one on this machine for the sweep alone")


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "note"), [(LONG, "is too long for Ray's sockets"), ("no", "cannot be used: No such")]
)
def test_a_folder_that_ray_cannot_use_is_replaced_and_named(
    name: str, folder: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, f"/tmp/{folder}")
    found = doctor("local")
    assert found.ok is None and f"; {name}=/tmp/{folder} {note}" in found.detail
    own = find_ray("local")
    made = own.make_folder()
    assert str(made.parent) == "/tmp" and made.stat().st_mode & 0o777 == 0o700
    made.rmdir()
    longest = made / "ray" / "session_2026-11-27_18-48-29_563302_4194304/sockets/plasma_store"
    assert len(bytes(longest)) + place._SOCKET_BYTES - place._APPENDED - len("/tmp") <= 107
    monkeypatch.setattr(place, "_BASES", ("/dev/null", "/dev/null/x"))
    assert f"at most {place._SOCKET_BYTES - place._APPENDED} bytes" in doctor("local").remedy


def test_a_ray_of_its_own_has_a_token_and_nothing_of_another_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_AUTH_MODE": "disabled"})
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    one, other = find_ray("local"), find_ray("local")
    one.prepare()
    assert os.environ["RAY_AUTH_MODE"] == "token" and "RAY_ADDRESS" not in os.environ
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ
    token = os.environ["RAY_AUTH_TOKEN"]
    assert re.fullmatch("[0-9a-f]{64}", token) and token not in f"{one!r}{one}"
    other.prepare()
    assert os.environ["RAY_AUTH_TOKEN"] != token


def test_a_dry_run_says_where_ray_would_be_and_asks_nobody(
    base: Path, monkeypatch: pytest.MonkeyPatch, tcclip: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head.invalid:6379")
    code, _, error = tcclip("sweep", "zero_shot", "--demo", "--dry-run", "--out", base / "out")
    assert code == 0
    assert error.splitlines()[0] == "Ray: the cluster at head.invalid:6379 (RAY_ADDRESS)"
