"""The settings of this service, beside those of the engine (`serving/settings.py`).

Each is an environment variable in capitals; `make run LOG_TEXTS=true` sets one.
"""

from pydantic import Field, SecretStr

from serving.settings import ServingSettings


class Settings(ServingSettings):
    """What an operator may change without a new image. Add your own here."""

    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Who may ask: `name:hash` of each API key; without one, everybody.",
    )
    log_texts: bool = Field(
        False, description="Log the texts of requests; they may be personal data."
    )
