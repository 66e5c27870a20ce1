"""The base class of requests and responses, and the engine's own response models.

Every model of `app/contract.py` derives from `Contract`.
"""

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Contract(BaseModel):
    """A strict, frozen model that rejects unknown fields, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # keeps user input out of logs
        protected_namespaces=(),
    )


class ModelInfo(Contract):
    """The served model and its origin."""

    version: str
    labels: list[str]
    metrics: dict[str, float]
    data_hash: str
    git_revision: str
    trained_at: AwareDatetime


class Health(Contract):
    """The response of a probe that succeeds."""

    status: str
