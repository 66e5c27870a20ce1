"""Settings: read from the environment, checked, and refused with one message."""

import re
from pathlib import Path

import pytest

from serving.settings import ServingSettings, SettingsError, load_settings


def test_a_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("MODEL_DIR", "elsewhere")

    settings = load_settings(ServingSettings)

    assert settings.port == 9000
    assert settings.model_dir == Path("elsewhere")


def test_all_bad_settings_are_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("MAX_CONCURRENCY", "0")

    with pytest.raises(SettingsError) as caught:
        load_settings(ServingSettings)

    message = str(caught.value)
    assert re.search(r"PORT='http': .*integer", message)
    assert re.search(r"LOG_LEVEL='loud': .*'debug', 'info'", message)
    assert re.search(r"MAX_CONCURRENCY='0': .*greater than or equal to 1", message)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400", "-1"])
@pytest.mark.parametrize("name", ["DRAIN_SECONDS", "BODY_SECONDS", "INLINE_BUDGET_MS"])
def test_a_number_that_is_infinite_nan_or_negative_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name}='{value}': "):
        load_settings(ServingSettings)
