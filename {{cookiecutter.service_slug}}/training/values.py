"""Validate the values of conf/config.yaml, which Hydra itself does not check."""

from typing import Annotated

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, Field, ValidationError

Share = Annotated[float, Field(gt=0, lt=1)]


class Split(BaseModel):
    """The split into training and test rows."""

    test_share: Share


class Validation(BaseModel):
    """The cross-validation that compares models."""

    folds: Annotated[int, Field(ge=2)]


class Gate(BaseModel):
    """The quality that a model needs to be exported."""

    macro_f1: Annotated[float, Field(ge=0, le=1)]


class Parity(BaseModel):
    """The largest difference of a probability between ONNX and scikit-learn."""

    tolerance: Share


class Values(BaseModel):
    """The values that apply to all data and models."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]  # the range of NumPy
    rows_per_label: Annotated[int, Field(ge=1)] | None
    split: Split
    validation: Validation
    gate: Gate
    parity: Parity


def find_mistakes(config: DictConfig) -> list[str]:
    """Return a line for each invalid value, with the reason."""
    try:
        Values.model_validate(OmegaConf.to_container(config, resolve=True))
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, mistake['loc']))}={mistake['input']}: {mistake['msg']}"
            for mistake in error.errors()
        ]
    return []
