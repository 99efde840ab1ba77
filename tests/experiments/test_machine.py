"""What a cgroup leaves of a machine's CPUs and memory."""

from pathlib import Path

import pytest

from experiments import machine


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 CPUs with 1000 kB of free memory; its own group is a/b of version 2."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, text in (("OWN_CGROUP", "0::/a/b\n"), ("MEMORY", "MemAvailable:  1000 kB\n")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(machine, name, tmp_path / name)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup/a/b").mkdir(parents=True)
    return tmp_path / "cgroup"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits(cgroups: Path) -> None:
    write(cgroups, cpu__max="max 100000", memory__max="max")
    assert (machine.cpu_count(), machine.free_memory()) == (8, 1_024_000)


def test_the_narrowest_group_counts(cgroups: Path) -> None:
    write(cgroups / "a", cpu__max="250000 100000", memory__max="5000", memory__current="4000",
          memory__stat="anon 1\ninactive_file 500")  # fmt: skip
    write(cgroups / "a/b", cpu__max="400000 100000", memory__max="9000", memory__current="4000")
    assert (machine.cpu_count(), machine.free_memory()) == (2, 1500)
    write(cgroups, cpu__max="50000 100000")
    assert machine.cpu_count() == 1, "half a CPU"


def test_version_1(cgroups: Path) -> None:
    machine.OWN_CGROUP.write_text("4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n")
    # In a container the path is the host's, and its own group is the root.
    write(cgroups / "cpu", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    write(cgroups / "memory", memory__limit_in_bytes="7000", memory__usage_in_bytes="6000")
    assert (machine.cpu_count(), machine.free_memory()) == (3, 1000)
    write(cgroups / "cpu", cpu__cfs_quota_us="-1")
    assert machine.cpu_count() == 8


def test_where_nothing_tells(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OWN_CGROUP", "MEMORY", "EVENTS"):
        monkeypatch.setattr(machine, name, cgroups / "gone")
    assert machine.free_memory() is None
    assert machine.killed_for_memory() is None
    assert machine.cpu_count() == 8
