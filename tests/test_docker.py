"""What of docker/ can be checked without an engine: structure, secrets, users, ports, pins."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
OPTIONAL = re.compile(r"\$\{(\w+):-[^}]*\}")
SECRETS = {"POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"])


def test_the_services_are_there_and_healthy_before_others_need_them(
    services: dict[str, Any],
) -> None:
    assert set(services) == {"postgres", "mlflow", "ray-head", "ray-worker"}
    assert all("healthcheck" in one for one in services.values())
    needs = {name: one.get("depends_on", {}) for name, one in services.items()}
    assert {name: list(of) for name, of in needs.items()} == {
        "postgres": [], "mlflow": ["postgres"], "ray-head": ["mlflow"], "ray-worker": ["ray-head"]
    }  # fmt: skip
    conditions = {of["condition"] for need in needs.values() for of in need.values()}
    assert conditions == {"service_healthy"}


def test_nothing_runs_as_root_or_may_become_it(services: dict[str, Any]) -> None:
    for one in services.values():
        assert re.fullmatch(
            r"postgres|\$\{TCCLIP_UID:-10001\}:\$\{TCCLIP_GID:-10001\}", one["user"]
        )
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in one


def test_nothing_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    ports = {name: one.get("ports", []) for name, one in compose["services"].items()}
    assert ports.pop("mlflow") == ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"]
    assert not any(ports.values())
    assert not any("network_mode" in one for one in compose["services"].values())
    assert compose["services"]["postgres"]["networks"] == ["database"]
    assert compose["networks"]["database"] == {"internal": True}


def test_secrets_come_from_the_environment_and_compose_refuses_without() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    assert set(REQUIRED.findall(text)) == SECRETS
    assert not SECRETS & set(OPTIONAL.findall(text))
    assert not SECRETS & set(re.findall(r"\$\{?(\w+)\}?(?!:\?)\b", REQUIRED.sub("", text)))


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    example = (DOCKER / ".env.example").read_text()
    lines = [line.lstrip("#") for line in example.splitlines() if re.match(r"#?[A-Z_]+=", line)]
    given = dict(line.split("=", 1) for line in lines)
    text = (DOCKER / "compose.yaml").read_text()
    assert set(given) == set(REQUIRED.findall(text)) | set(OPTIONAL.findall(text))
    assert all(given[name] == "" for name in SECRETS)


def test_ray_asks_for_a_token_on_every_node(services: dict[str, Any]) -> None:
    for name in ("ray-head", "ray-worker"):
        environment = services[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
        assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_every_ray_node_sees_the_same_output_folder(services: dict[str, Any]) -> None:
    assert services["ray-head"]["volumes"] == services["ray-worker"]["volumes"]
    assert "${TCCLIP_OUT_FOLDER:-out}:/out" in services["ray-head"]["volumes"]


def test_volumes_and_networks_are_declared(compose: dict[str, Any]) -> None:
    for one in compose["services"].values():
        for volume in one["volumes"]:
            source = OPTIONAL.sub(lambda match: match[0].partition(":-")[2][:-1], volume)
            assert source.partition(":")[0] in compose["volumes"]
        assert set(one["networks"]) <= set(compose["networks"])


def test_the_gpu_file_changes_only_known_services(services: dict[str, Any]) -> None:
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    assert set(gpu) <= set(services)
    (device,) = gpu["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_images_are_pinned_by_tag(services: dict[str, Any]) -> None:
    images = {one["image"] for one in services.values()}
    assert images == {"tcclip:local", "postgres:17.6-bookworm"}
    bases = re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert bases == ["python:3.11.13-slim-bookworm"] * 2


def test_the_image_installs_hashed_pins_and_ends_as_a_user() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*?)(?: \\)?$", text, re.MULTILINE)
    assert len(installs) == 4
    assert all(one.startswith(("--require-hashes", "--no-deps --no-index")) for one in installs)
    assert re.findall(r"^USER (.+)", text, re.MULTILINE) == ["$APP_UID:$APP_GID"]
    assert not re.search(r"PASSWORD|TOKEN|SECRET", text)


def test_what_the_image_copies_is_in_the_repository_and_in_the_context() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    sources = {name for names in copied for name in names if not name.startswith(("-", "/"))}
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert any(Path(source).match(rule[1:]) for rule in allowed if rule.startswith("!"))


@pytest.mark.parametrize("name", ["requirements-build.txt", "requirements-server.txt"])
def test_extra_requirements_are_hashed_and_agree_with_the_projects(name: str) -> None:
    text = (DOCKER / name).read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    assert pins
    assert len(re.findall(r"^[\w-]+==\S+.*?\\\n    --hash=sha256:", text, re.MULTILINE)) == len(
        pins
    )
    everything = (ROOT / "requirements.txt").read_text() + (
        ROOT / "requirements-dev.txt"
    ).read_text()
    others = dict(re.findall(r"^([\w-]+)==(\S+)", everything, re.MULTILINE))
    assert all(others.get(package, version) == version for package, version in pins.items())
