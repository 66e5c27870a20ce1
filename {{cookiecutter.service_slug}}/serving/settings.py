"""The settings of the engine. Each is an environment variable in capitals.

`app/settings.py` adds those of this service. A setting may also be a file of its name
in `SECRETS`.
"""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

# Secrets of a container, one per file. pydantic warns if the directory is missing.
SECRETS = Path("/run/secrets")

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["json", "console"]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(Exception):
    """A setting is invalid. The message names variable, value and allowed values."""


class ServingSettings(BaseSettings):
    """The settings that an operator may change without a new image."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    service_host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port to listen on; 0 takes a free one."
    )
    root_path: Annotated[str, Field(pattern=r"^(/[^/?#\s]+)*$")] = Field(
        "",
        description="Prefix that a proxy removes from the path, such as `/intents`.",
    )
    model_dir: Path = Field(
        Path("models"), description="Directory of model.onnx and model.json."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        1_024,
        description="Open connections; beyond it, those that were idle longest are "
        "closed.",
    )
    keep_alive_seconds: Seconds = Field(
        75.0,
        description="Seconds without a request after which a connection is closed; "
        "longer than the proxies before it keep theirs.",
    )
    max_head_bytes: Annotated[int, Field(ge=4_096)] = Field(
        65_536,
        description="Largest head of a request, and of its chunks and trailers; a "
        "larger one gets 431 or 414. Also bytes of the requests of a connection that "
        "wait for their turn; beyond it, reading pauses.",
    )
    max_headers: Annotated[int, Field(ge=16)] = Field(
        256, description="Header fields of a request; more get 431."
    )
    head_seconds: Seconds = Field(
        10.0, description="Seconds for a head to arrive; a slower one gets 408."
    )
    max_pipeline: Annotated[int, Field(ge=1)] = Field(
        16,
        description="Requests of a connection that wait for their turn; beyond it, "
        "reading pauses.",
    )
    write_seconds: Seconds = Field(
        10.0,
        description="Seconds in which a client takes nothing of an answer, after which "
        "its connection is closed.",
    )
    linger_seconds: Seconds = Field(
        10.0,
        description="Seconds in which a client may send on after its last answer.",
    )
    linger_bytes: Annotated[int, Field(ge=0)] = Field(
        67_108_864,
        description="Bytes that a client may send on after its last answer.",
    )
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(
        1_048_576, description="Largest request body; a larger one gets 413."
    )
    body_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds for a body to arrive; a slower one gets 408."
    )
    max_concurrency: Annotated[int, Field(ge=1)] = Field(
        256, description="Requests in flight at once; more get 503 with Retry-After."
    )
    max_bodies_arriving: Annotated[int, Field(ge=1)] = Field(
        1_024,
        description="Requests whose bodies are on their way at once; beyond it, those "
        "that stall end with 408.",
    )
    max_bytes_in_work: Annotated[int, Field(ge=1)] = Field(
        67_108_864,
        description="Bytes of bodies in flight at once; more get 503 with Retry-After. "
        "Also of answers that clients do not take; beyond it, the oldest are cut off.",
    )
    inline_budget_ms: Annotated[float, Field(ge=0)] = Field(
        5.0,
        description="A model call expected to take longer runs in a worker thread, "
        "not in the event loop.",
    )
    open_inference: bool = Field(
        True, description="Serve the Open Inference Protocol below `/v2`."
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Seconds after SIGTERM in which requests are still served while "
        "/readyz is 503.",
    )
    graceful_seconds: Annotated[int, Field(ge=1)] = Field(
        20, description="Seconds after the drain for requests in flight to finish."
    )
    log_level: Annotated[LogLevel, BeforeValidator(str.lower)] = Field(
        "info", description="Lowest level to log."
    )
    log_format: Annotated[LogFormat, BeforeValidator(str.lower)] = Field(
        "json", description="`json`: one object per line; `console`: text."
    )


SettingsT = TypeVar("SettingsT", bound=ServingSettings)


def load_settings(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment and the files in `SECRETS`.

    Raises SettingsError, which lists every invalid variable.
    """
    check_secrets(settings)
    try:
        return settings(**find_old_host())
    except ValidationError as error:
        lines = [f"  {_describe(settings, mistake)}" for mistake in error.errors()]
        raise SettingsError(
            "These settings are invalid:\n"
            + "\n".join(lines)
            + "\nCorrect or unset the environment variables, then start again."
        ) from None


def check_secrets(settings: type[ServingSettings]) -> None:
    """Raise SettingsError if the file of a setting gives no value.

    pydantic would use the default, such as no API keys, and warn at most.
    """
    if not SECRETS.is_dir():
        return
    given = {name.lower() for name, value in os.environ.items() if value}
    names = settings.model_fields.keys() - given
    try:
        files = sorted(SECRETS.iterdir())
    except OSError as error:
        raise SettingsError(
            f"{SECRETS} cannot be read: {error.strerror}. Give the service the "
            "right to list it, then start again."
        ) from None
    reasons = [
        f"  {file} {why}"
        for file in files
        if file.name.lower() in names and (why := _explain_no_value(file))
    ]
    if reasons:
        raise SettingsError(
            "These settings have a file and no value:\n"
            + "\n".join(reasons)
            + "\nWrite the value into the file or remove the file, then start again."
        )


def _explain_no_value(file: Path) -> str:
    """Return why pydantic reads no value from a file; an empty string if it does."""
    try:
        if not file.is_file():
            return "is no file."
        if SECRETS.resolve() not in file.resolve().parents:
            return f"leads out of {SECRETS}, where no file is read."
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        return f"cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        return "is not UTF-8."
    return "" if text.strip() else "is empty."


def find_old_host() -> dict[str, Any]:
    """Return `service_host` from HOST, its earlier name, if HOST holds an address.

    Shells and conda also export HOST, with the name of a machine or a platform.
    """
    host = os.environ.get("HOST", "")
    if os.environ.get("SERVICE_HOST"):
        return {}
    try:
        ip_address(host)
    except ValueError:
        return {}
    return {"service_host": host}


def _describe(settings: type[ServingSettings], mistake: ErrorDetails) -> str:
    """Return the variable, its value unless it is a secret, and what is allowed."""
    if not mistake["loc"]:  # found by a validator of the whole model
        return mistake["msg"]
    name = str(mistake["loc"][0])
    field = settings.model_fields.get(name.lower())
    value = f"={mistake['input']!r}"
    if field is not None and "Secret" in repr(field.annotation):
        value = ""
    return f"{name.upper()}{value}: {mistake['msg']}"
