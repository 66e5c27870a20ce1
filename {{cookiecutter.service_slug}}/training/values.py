"""The configuration as a typed object, from which the stages read all values.

Hydra composes `training/conf`; `read_config` validates the result once, and converts
nothing silently.
"""

import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

CONFIG_DIR = str(Path(__file__).parent / "conf")
TARGET = "_target_"


def _is_none(value: object) -> bool:
    return value is None


Share = Annotated[float, Field(gt=0, lt=1)]
# The bounds of a metric. One that the gate does not name is left out of the dump.
Ratio = Annotated[float | None, Field(ge=0, le=1, exclude_if=_is_none)]
Distance = Annotated[float | None, Field(ge=0, exclude_if=_is_none)]
# In YAML and on the command line, a path is text.
File = Annotated[Path, Field(strict=False)]


class Values(BaseModel):
    """A strict, frozen group of values that rejects unknown names, NaN and infinity."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False
    )


class Component(Values):
    """A function that a config of `conf/data` or `conf/model` names, and its arguments.

    The signature of the function is the schema of the config, so its annotations are
    checked: `Annotated[float, Field(gt=0)]` refuses 0. The arguments are attributes.
    """

    model_config = ConfigDict(extra="allow")

    target: Annotated[str, Field(alias=TARGET)]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return an argument."""

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get(TARGET), str):
            return content
        arguments = {key: value for key, value in content.items() if key != TARGET}
        schema = _read_signature(_find(content[TARGET]))
        checked = schema.model_validate(arguments)
        return {TARGET: content[TARGET], **dict(checked)}

    def create(self, **replaced: Any) -> Any:
        """Call the function with the arguments, some of which may be replaced."""
        return _find(self.target)(**{**(self.model_extra or {}), **replaced})


def _find(target: str) -> Callable[..., Any]:
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        reason = str(error)
    else:
        if callable(found):
            return found  # type: ignore[no-any-return]
        reason = f"it is of type {type(found).__name__}"
    raise PydanticCustomError(
        "target",
        "{target} is not a function: {reason}.",
        {"target": target, "reason": reason},
    )


def _read_signature(function: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        is_required = parameter.default is parameter.empty
        default = ... if is_required else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model(function.__name__, __base__=Values, **fields)


class Split(Values):
    """The split into training and test rows."""

    test_share: Share


class Validation(Values):
    """The cross-validation that compares models."""

    folds: Annotated[int, Field(ge=2)]


class Gate(Values):
    """The quality that a model needs to be exported: floors, or ceilings of errors."""

    macro_f1: Ratio = None
    accuracy: Ratio = None
    roc_auc: Ratio = None
    pr_auc: Ratio = None
    log_loss: Distance = None
    mae: Distance = None
    rmse: Distance = None
    r2: Annotated[float | None, Field(le=1, exclude_if=_is_none)] = None


class Parity(Values):
    """The largest difference between ONNX and scikit-learn."""

    tolerance: Share


class Promote(Values):
    """By how much a candidate may be worse than the model: training/promote.py.

    `tolerance` is for the metric of the task, `label_tolerance` a share of the rows of
    a label. `tenant_tolerance` is a share of the corrections of a tenant or, of a
    regression, of their mean absolute error.
    """

    tolerance: Annotated[float, Field(ge=0, lt=1)]
    label_tolerance: Annotated[float, Field(ge=0, lt=1)]
    tenant_tolerance: Annotated[float, Field(ge=0, lt=1)]


class Paths(Values):
    """The files of the pipeline."""

    config: File
    raw: File
    raw_test: File
    train: File
    test: File
    pipeline: File
    model: File
    training: File
    metrics: File
    plots: File
    bad_rows: File
    report: File
    runs: File
    promotion: File


class Config(Values):
    """The configuration of the pipeline. `root` is the directory of relative paths."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]  # the range of NumPy
    rows_per_label: Annotated[int, Field(ge=1)] | None
    data: Component
    corrections: File | None
    model: Component
    split: Split
    validation: Validation
    gate: Gate
    threshold: Share | None
    refit: bool
    parity: Parity
    promote: Promote
    root: File
    paths: Paths


class ConfigError(Exception):
    """The configuration is wrong. The message names each value, reason and fix."""


def read_config(composed: DictConfig) -> Config:
    """Validate what Hydra composed. Raises ConfigError with all mistakes."""
    try:
        content = OmegaConf.to_container(composed, resolve=True)
        config = Config.model_validate(content)
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        mistakes = [f"{error.full_key}: {reason}"]
    except ValidationError as error:
        mistakes = [_describe(mistake) for mistake in error.errors()]
    else:
        paths = {name: config.root / path for name, path in config.paths}
        return config.model_copy(update={"paths": Paths(**paths)})
    raise ConfigError("\n".join(["The configuration is wrong:", *mistakes]))


def dump_config(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values, as YAML and JSON hold them."""
    return config.model_dump(mode="json", by_alias=True)


def _describe(mistake: ErrorDetails) -> str:
    """Return one line: the value, the reason and what to write instead."""
    name = ".".join(map(str, mistake["loc"]))
    value = mistake["input"]
    group = sorted(path.stem for path in Path(CONFIG_DIR, name).glob("*.yaml"))
    if group and (mistake["type"] == "missing" or not isinstance(value, dict)):
        return f"{name}: none is chosen. Choose {name}={' or '.join(group)}."
    if mistake["type"] == "missing":
        return f"{name}: it is missing. Give it a value in training/conf."
    if mistake["type"] == "extra_forbidden":
        return f"{name}={value}: there is no such value. Remove it."
    remedy = _suggest(mistake["type"], value)
    shown = "null" if value is None else value
    return f"{name}={shown}: {mistake['msg'].rstrip('.')}.{remedy}"


def _suggest(kind: str, value: Any) -> str:
    if kind == "string_type" and value is not None:
        return f" Quote it: '{value}' in a file, \"'{value}'\" on the command line."
    if kind not in {"int_type", "float_type"}:
        return ""
    if isinstance(value, bool):
        return " true and false are no numbers."
    if isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}."
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return f" Write {value}, without quotes."
    return ""
