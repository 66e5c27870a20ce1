"""The settings of this service, in addition to those of `serving/settings.py`.

Each is an environment variable in capitals: `make run LOG_TEXTS=true` sets one.
"""

from pydantic import Field, SecretStr

from serving.settings import ServingSettings


class Settings(ServingSettings):
    """The settings that an operator may change without a new image. Add yours here."""

    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Accepted API keys, each as `name:hash`; without one, no key is "
        "needed.",
    )
    log_texts: bool = Field(
        False, description="Log the texts of requests, which may be personal data."
    )
