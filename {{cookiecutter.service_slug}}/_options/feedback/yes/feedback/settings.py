"""The settings of feedback: environment variables, or files in /run/secrets."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from serving.settings import Seconds, ServingSettings

DIALECTS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}


class FeedbackSettings(ServingSettings):
    """The settings of the database, in addition to those of the engine."""

    database_kind: Literal["any", "postgresql"] = Field(
        "any",
        description="`postgresql`: refuse SQLite, as the manifests of every stage do.",
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///data/feedback.db"),
        description="Where feedback is stored: `postgresql://user:password@host/name`, "
        "or a SQLite file on a laptop.",
    )
    feedback_seconds: Seconds = Field(
        2.0,
        description="Seconds for the database to store what a request brings; then it "
        "gets 503 with Retry-After.",
    )
    feedback_connections: Annotated[int, Field(ge=1)] = Field(
        2, description="Connections of a process to PostgreSQL."
    )
    feedback_instances: bool = Field(
        True,
        description="`off`: store no instance, comment, source or actor, which may be "
        "personal data; what is left counts how often predictions are right.",
    )

    @field_validator("database_url")
    @classmethod
    def _can_be_used(cls, given: SecretStr, info: ValidationInfo) -> SecretStr:
        try:
            url = make_url(given.get_secret_value())
        except ArgumentError:
            raise ValueError("It is no URL: postgresql://user@host/db") from None
        if url.drivername not in DIALECTS:
            raise ValueError("It begins with neither postgresql:// nor sqlite://")
        if "sqlite" in url.drivername and info.data.get("database_kind") != "any":
            raise ValueError(
                "SQLite is a file of one machine: pods do not share it, and lose it "
                "when they end. Name a PostgreSQL (postgresql://user:password@host/db)"
                " in the Secret"
            )
        return given

    @property
    def url(self) -> URL:
        """Return the address of the database, with its driver."""
        url = make_url(self.database_url.get_secret_value())
        return url.set(drivername=DIALECTS[url.drivername])

    @property
    def is_sqlite(self) -> bool:
        """Return whether the database is a SQLite file."""
        return self.url.drivername == "sqlite"
