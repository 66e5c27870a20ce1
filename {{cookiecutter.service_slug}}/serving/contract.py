"""Base classes of what goes in and out, and the models that the engine itself answers.

`Contract` is the base of every model of `app/contract.py`.
"""

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Contract(BaseModel):
    """Strict and frozen; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # what a user wrote must not reach a log
        protected_namespaces=(),
    )


class ModelInfo(Contract):
    """What is served, and where it comes from."""

    version: str
    labels: list[str]
    metrics: dict[str, float]
    data_hash: str
    git_revision: str
    trained_at: AwareDatetime


class Health(Contract):
    """The answer of a probe that succeeds."""

    status: str
