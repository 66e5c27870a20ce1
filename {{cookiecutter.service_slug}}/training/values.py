"""What the values of conf/config.yaml may be; Hydra itself takes whatever parses."""

from typing import Annotated

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, Field, ValidationError

Share = Annotated[float, Field(gt=0, lt=1)]


class Split(BaseModel):
    """How the rows are split."""

    test_share: Share


class Validation(BaseModel):
    """How models are compared."""

    folds: Annotated[int, Field(ge=2)]


class Gate(BaseModel):
    """What a model must reach to be exported."""

    macro_f1: Annotated[float, Field(ge=0, le=1)]


class Parity(BaseModel):
    """How far ONNX may be from scikit-learn."""

    tolerance: Share


class Values(BaseModel):
    """The values that all data and models share."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
    rows_per_label: Annotated[int, Field(ge=1)] | None
    split: Split
    validation: Validation
    gate: Gate
    parity: Parity


def mistakes(config: DictConfig) -> list[str]:
    """Each value that cannot be used, with the reason; empty if all can."""
    try:
        Values.model_validate(OmegaConf.to_container(config, resolve=True))
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, mistake['loc']))}={mistake['input']}: {mistake['msg']}"
            for mistake in error.errors()
        ]
    return []
