"""Settings: documented, checked, and refused with one readable message."""

import re
from pathlib import Path

import pytest

from app.cpus import usable_cpus
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


def test_without_a_quota_all_cpus_are_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)), raising=False)

    assert usable_cpus(tmp_path / "missing") == 3
