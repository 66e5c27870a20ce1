"""The settings of the engine: one environment variable each, in capitals.

`app/settings.py` adds those of this service. A setting that is a secret comes as a file
of its name in `SECRETS` instead.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

# Where containers are handed secrets, a file each; pydantic warns if it is not there.
SECRETS = Path("/run/secrets")

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "console"]


class SettingsError(Exception):
    """A setting is unusable; the message has variable, value and what is allowed."""


class ServingSettings(BaseSettings):
    """What an operator may change of the engine without a new image."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        protected_namespaces=(),
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port to listen on; 0 takes a free one."
    )
    model_dir: Path = Field(
        Path("models"), description="Directory of model.onnx and model.json."
    )
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(
        1_048_576, description="Largest request body; beyond it: 413."
    )
    body_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Longest time for a body to arrive; beyond it: 408."
    )
    max_concurrency: Annotated[int, Field(ge=1)] = Field(
        256, description="Requests in work at once; beyond it: 503 with Retry-After."
    )
    max_bytes_in_work: Annotated[int, Field(ge=1)] = Field(
        67_108_864,
        description="Bytes of bodies in work at once; beyond it: 503 with Retry-After.",
    )
    inline_budget_ms: Annotated[float, Field(ge=0)] = Field(
        5.0,
        description="A model call expected to take longer leaves the event loop "
        "for a worker thread.",
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="After SIGTERM: how long requests are still taken while "
        "/readyz is already 503.",
    )
    graceful_seconds: Annotated[int, Field(ge=1)] = Field(
        20, description="After draining: how long requests in flight may still take."
    )
    log_level: Annotated[LogLevel, BeforeValidator(str.lower)] = Field(
        "info", description="Least severe level to log."
    )
    log_format: Annotated[LogFormat, BeforeValidator(str.lower)] = Field(
        "json", description="One JSON object a line, or console: lines for people."
    )


SettingsT = TypeVar("SettingsT", bound=ServingSettings)


def load_settings(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment.

    Raises SettingsError, with every bad variable in one message.
    """
    try:
        return settings()
    except ValidationError as error:
        lines = [
            f"  {str(mistake['loc'][0]).upper()}={mistake['input']!r}: {mistake['msg']}"
            for mistake in error.errors()
        ]
        raise SettingsError(
            "These settings cannot be used:\n"
            + "\n".join(lines)
            + "\nCorrect or unset the environment variables, then start again."
        ) from None
