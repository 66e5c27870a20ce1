"""Settings: documented, checked, and refused with one readable message."""

import re
from pathlib import Path

import pytest

from app.container import cpu_limit, memory_limit, usable_cpus
from app.settings import Settings, SettingsError, load_settings

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_documents_every_setting_as_it_is() -> None:
    documented = re.findall(
        r"^\| `([A-Z_]+)` \| `(.*?)` \| (.*?) \|$",
        README.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert documented == [
        (name.upper(), str(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_a_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("MODEL_DIR", "elsewhere")

    settings = load_settings()

    assert settings.port == 9000
    assert settings.model_dir == Path("elsewhere")


def test_all_bad_settings_are_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("MAX_CONCURRENCY", "0")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert re.search(r"PORT='http': .*integer", message)
    assert re.search(r"LOG_LEVEL='loud': .*'debug', 'info'", message)
    assert re.search(r"MAX_CONCURRENCY='0': .*greater than or equal to 1", message)


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [("100000 100000", 1), ("150000 100000", 2), ("max 100000", 64)],
)
def test_threads_follow_the_cpus_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, cpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert usable_cpus(tmp_path / "cpu.max") == cpus


def test_a_share_of_a_cpu_is_a_limit_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000")

    assert cpu_limit(tmp_path / "cpu.max") == 0.5
    assert usable_cpus(tmp_path / "cpu.max") == 1


def test_the_memory_limit_is_that_of_the_container_or_else_the_machine(
    tmp_path: Path,
) -> None:
    limited, unlimited = tmp_path / "limited", tmp_path / "unlimited"
    limited.write_text("1048576\n")
    unlimited.write_text("max\n")

    assert memory_limit(limited) == 1_048_576
    machine = memory_limit(unlimited)
    assert machine == memory_limit(tmp_path / "missing") > 1_048_576


def test_without_a_quota_all_cpus_are_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)), raising=False)

    assert usable_cpus(tmp_path / "missing") == 3
