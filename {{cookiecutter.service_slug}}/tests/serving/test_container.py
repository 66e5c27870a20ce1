"""CPUs and memory: the limits of the container, or else of the machine."""

from pathlib import Path

import pytest

from serving.container import cpu_limit, memory_limit, usable_cpus


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cgroup on a machine of 64 CPUs."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu_max", "limit", "cpus"),
    [
        ("100000 100000", 1, 1),
        ("150000 100000", 1.5, 2),
        ("50000 100000", 0.5, 1),
        ("max 100000", 64, 64),
    ],
)
def test_threads_follow_the_cpus_of_the_container(
    cgroup: Path, cpu_max: str, limit: float, cpus: int
) -> None:
    (cgroup / "cpu.max").write_text(cpu_max)

    assert cpu_limit(cgroup) == limit
    assert usable_cpus(cgroup) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("200000", 2), ("-1", 64)])
def test_version_1_of_cgroups_is_understood(
    cgroup: Path, quota: str, cpus: int
) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000")
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("1048576")

    assert usable_cpus(cgroup) == cpus
    assert memory_limit(cgroup) == 1_048_576


def test_the_memory_limit_is_that_of_the_container_or_else_the_machine(
    cgroup: Path,
) -> None:
    machine = memory_limit(cgroup)
    (cgroup / "memory.max").write_text("max\n")
    assert memory_limit(cgroup) == machine > 1_048_576

    (cgroup / "memory.max").write_text("1048576\n")
    assert memory_limit(cgroup) == 1_048_576


def test_without_a_quota_all_cpus_are_usable(cgroup: Path) -> None:
    assert usable_cpus(cgroup) == 64
