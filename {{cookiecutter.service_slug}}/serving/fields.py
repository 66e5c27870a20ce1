"""Read the kinds of the fields of a contract, and convert instances to arrays.

The model has one input for each field of `Instance`, with the same name.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import AliasChoices, BaseModel
from pydantic_core import to_jsonable_python

from serving.contract import MAX_NUMBER, Task

InstanceT = TypeVar("InstanceT", bound=BaseModel)

# What a model reads where a text or a category is None.
MISSING = ""

RETRAIN = "Train the model again with this app/contract.py (make train)."

# The output that is read from a model for each task.
OUTPUTS = {Task.CLASSIFICATION: "probabilities", Task.REGRESSION: "variable"}

# The dtype of the array for each input type of ONNX Runtime.
DTYPES: dict[str, Any] = {
    "tensor(string)": np.object_,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Kind(StrEnum):
    """What a field of a contract holds, and so how a model reads it."""

    TEXT = "text"
    CATEGORY = "category"
    NUMBER = "number"
    FLAG = "flag"
    VECTOR = "vector"


@dataclass(frozen=True)
class FieldKind:
    """A field of a contract.

    `optional` says that it may be None. `choices` are those of a category as text, and
    `values` are the same choices as JSON has them. `length` is the number of columns.
    `lowest` and `highest` are the smallest and the largest number that the contract
    allows, and `whole` says that only integers are allowed.
    """

    name: str
    kind: Kind
    optional: bool = False
    choices: tuple[str, ...] = ()
    length: int = 1
    lowest: float = -MAX_NUMBER
    highest: float = MAX_NUMBER
    whole: bool = False
    values: tuple[Any, ...] = dataclasses.field(default=(), compare=False)


def read_kinds(contract: type[BaseModel]) -> tuple[FieldKind, ...]:
    """Return the fields of a contract, in their order.

    Raises ValueError, with the field and what to write instead, for a type that no
    model reads.
    """
    schema = contract.model_json_schema(by_alias=False)
    for name in contract.model_fields:
        _check_name(name, contract)
    kinds = tuple(
        _read_kind(name, field, schema, contract.__name__)
        for name, field in schema.get("properties", {}).items()
    )
    if not kinds:
        raise ValueError(f"{contract.__name__} has no fields: a model needs one.")
    for name in contract.model_fields:
        check_field(name, contract)
    return kinds


def read_label(labelled: type[BaseModel]) -> FieldKind:
    """Return the field `label`, whose type states the task.

    Raises ValueError if a model cannot predict it.
    """
    where = f"The field 'label' of {labelled.__name__}"
    if "label" not in labelled.model_fields:
        raise ValueError(f"{where} is missing: write `label: str` or `label: float`.")
    schema = labelled.model_json_schema(by_alias=False)
    given = schema["properties"]["label"]
    label = _read_kind("label", given, schema, labelled.__name__)
    if label.kind is Kind.VECTOR:
        raise ValueError(f"{where} is a list: a model predicts one label or number.")
    if label.optional:
        raise ValueError(f"{where} may be None: every row of training data needs one.")
    return label


def read_types(contract: type[BaseModel]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the JSON schemas of the types that each field may have; None is "null"."""
    schema = contract.model_json_schema(by_alias=False)
    return {
        name: list(_alternatives(field, schema))
        for name, field in schema["properties"].items()
    }


def read_task(labelled: type[BaseModel]) -> Task:
    """Return the task: a number is predicted by regression, all else is a label.

    Raises ValueError if a model cannot predict it.
    """
    is_number = read_label(labelled).kind is Kind.NUMBER
    return Task.REGRESSION if is_number else Task.CLASSIFICATION


def as_text(value: Any) -> str:
    """Return a category or a label as text: `True` as "true", an enum by its value."""
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        return as_text(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_name(name: str, contract: type[BaseModel]) -> None:
    """Raise ValueError for a name that models or pydantic use for something else."""
    where = f"The field '{name}' of {contract.__name__}"
    another = f"call it {name}_value or the like."
    if name in {"label", *OUTPUTS.values()}:
        raise ValueError(f"{where} has the name of an output of models: {another}")
    # pydantic lets a field hide a deprecated method, such as `copy`.
    if name.startswith("model_") and hasattr(BaseModel, name):
        raise ValueError(f"{where} has a name that pydantic needs itself: {another}")


def check_field(name: str, contract: type[BaseModel]) -> None:
    """Check what the JSON schema of a field does not tell: alias, values in Python.

    Raises ValueError, with what to write instead, if the field is taken by an alias
    only, or if its values are no text, number or bool.
    """
    _check_alias(name, contract)
    where = f"The field '{name}' of {contract.__name__}"
    for schema in _core_schemas(name, contract):
        if schema["type"] == "complex":
            raise ValueError(
                f"{where} is a complex number, which no model reads. Write its real "
                "and its imaginary part as two fields of the type `float`."
            )
        if _is_object(schema):
            raise ValueError(
                f"{where} becomes an object in Python, which no model reads. Write "
                "`str`, `int`, `float` or `bool`, as clients send it, and check it "
                "with an AfterValidator."
            )
        if odd := _find_odd_choices(schema):
            raise ValueError(
                f"{where} has the choice {odd[0]!r}, which is no text and no number. "
                "Write each choice as a str, an int, a float or a bool, and None as "
                "`| None`."
            )


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Return whether values are objects of a type that JSON does not have."""
    match schema["type"]:
        case "json" | "decimal":
            return True
        case "function-plain":  # its function may return anything
            return "json_schema_input_schema" not in schema
        case "json-or-python":  # a Sequence is a list in JSON
            return bool(schema["json_schema"]["type"] != "list")
    return False


def _find_odd_choices(schema: Mapping[str, Any]) -> list[Any]:
    """Return the choices that are not in Python what they are in JSON."""
    if schema["type"] == "enum":
        return [one.value for one in schema["members"] if not _is_plain(one.value)]
    expected = schema["expected"] if schema["type"] == "literal" else []
    return [one for one in expected if one is not None and not _is_plain(one)]


def _is_plain(choice: Any) -> bool:
    """Return whether a choice is a text, a number or a bool, or an enum's of these."""
    value = choice.value if isinstance(choice, Enum) else choice
    return isinstance(value, (str, int, float))


def _core_schemas(name: str, contract: type[BaseModel]) -> Iterator[Any]:
    """Yield pydantic's core schemas of a field, from the outermost to the innermost.

    https://docs.pydantic.dev/latest/api/pydantic_core_schema/
    """
    schema: Any = contract.__pydantic_core_schema__
    definitions = {one["ref"]: one for one in schema.get("definitions", [])}
    is_field = False
    while True:
        if is_field:
            yield schema
        if schema["type"] == "model-fields" and not is_field:
            schema, is_field = schema["fields"][name], True
        elif "schema_ref" in schema:
            schema = definitions[schema["schema_ref"]]
        elif "schema" in schema:
            schema = schema["schema"]
        else:
            return


def _check_alias(name: str, contract: type[BaseModel]) -> None:
    """Raise ValueError for a field that is taken by an alias only."""
    where = f"The field '{name}' of {contract.__name__}"
    config, alias = contract.model_config, contract.model_fields[name].validation_alias
    if config.get("validate_by_name") or config.get("populate_by_name"):
        return
    names = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    if name not in names:
        raise ValueError(
            f"{where} is taken by its alias only, but training data and tensors have "
            "it by its name. Remove the alias, or add `validate_by_name=True` to "
            "model_config."
        )


def _read_kind(
    name: str, schema: Mapping[str, Any], document: Mapping[str, Any], owner: str
) -> FieldKind:
    """Return the kind of a field from its JSON schema. Raises ValueError."""
    alternatives = list(_alternatives(schema, document))
    values = [one for one in alternatives if one.get("type") != "null"]
    optional = len(values) < len(alternatives)
    where = f"The field '{name}' of {owner}"
    if len(values) != 1:
        raise ValueError(
            f"{where} has several types; a model reads one. Write it as one of them, "
            "and a Decimal as `float`."
        )
    (one,) = values
    choices = one.get("enum", [one["const"]] if "const" in one else [])
    if choices:
        optional = optional or None in choices
        given = tuple(choice for choice in choices if choice is not None)
        texts = tuple(map(as_text, given))
        if len(set(texts)) < len(texts):
            raise ValueError(f"{where} has choices of the same text; rename one.")
        if optional and MISSING in texts:
            raise ValueError(
                f"{where} may be None and may be {MISSING!r}, which a model reads "
                "alike; give it one of them."
            )
        return FieldKind(name, Kind.CATEGORY, optional, texts, values=given)

    match one.get("type"):
        case "string" if "format" not in one:
            return FieldKind(name, Kind.TEXT, optional)
        case "boolean":
            return FieldKind(name, Kind.FLAG, optional)
        case "number" | "integer":
            return FieldKind(name, Kind.NUMBER, optional, **_bounds(one))
        case "array":
            length = one.get("minItems", 0)
            items = _resolve(one.get("items", {}), document)
            is_number = items.get("type") in ("number", "integer")
            is_set = one.get("uniqueItems", False)  # it has no order
            if is_number and not is_set and length == one.get("maxItems") != 0:
                return FieldKind(
                    name, Kind.VECTOR, optional, length=length, **_bounds(items)
                )
    raise ValueError(f"{where} is {_describe(one)}")


def _resolve(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """Return a schema, or the one of the same document that it refers to."""
    while "$ref" in schema:
        schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _alternatives(schema: Any, document: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schema of each type that a field may have."""
    schema = _resolve(schema, document)
    if "anyOf" not in schema:
        yield schema
        return
    for one in schema["anyOf"]:
        yield from _alternatives(one, document)


def _bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of a number. An exclusive one is replaced by the next number.

    That is the next integer or the next float32.
    """
    lowest = schema.get("minimum", -MAX_NUMBER)
    highest = schema.get("maximum", MAX_NUMBER)
    whole = schema["type"] == "integer"
    if (above := schema.get("exclusiveMinimum")) is not None:
        lowest = (
            above + 1 if whole else np.nextafter(np.float32(above), np.float32(1e38))
        )
    if (below := schema.get("exclusiveMaximum")) is not None:
        highest = (
            below - 1 if whole else np.nextafter(np.float32(below), np.float32(-1e38))
        )
    return {"lowest": float(lowest), "highest": float(highest), "whole": whole}


def _describe(schema: Mapping[str, Any]) -> str:
    """Say what a field is that no model reads, and what to write instead."""
    form, type_ = schema.get("format"), schema.get("type")
    if type_ == "string" and form in {"date", "date-time", "time", "duration"}:
        return (
            f"a {form}; a model reads numbers. Write `float`, and let clients send "
            "what matters of it, such as the hour or the days that have passed."
        )
    if type_ == "string":
        return f"text in the format {form!r}. Write `str`, or the choices as Literal."
    if type_ == "array":
        return (
            "a list; a model reads only lists of numbers of a fixed length. Write "
            "`Annotated[list[float], Field(min_length=3, max_length=3)]`."
        )
    if type_ == "object":
        return "an object. Write each of its parts as a field of its own."
    return (
        "of a type that no model reads. Write `str` (text), a Literal or an enum "
        "(category), `int` or `float` (number), `bool` (flag), or a list of numbers of "
        "fixed length (vector); each may be `| None`."
    )


def describe_kinds(fields: Sequence[FieldKind]) -> dict[str, str]:
    """Return what each field holds, by its name: "number", "vector of 3"."""
    return {
        field.name: (
            f"{field.kind} of {field.length}"
            if field.kind is Kind.VECTOR
            else str(field.kind)
        )
        for field in fields
    }


def dump_fields(instance: BaseModel) -> dict[str, Any]:
    """Return the fields of an instance as JSON has them, to be validated again.

    `model_dump` would add computed fields and apply serialisers to the others.
    """
    values = {name: getattr(instance, name) for name in type(instance).model_fields}
    dumped: dict[str, Any] = to_jsonable_python(values)
    return dumped


def to_array(
    field: FieldKind, values: Sequence[Any], dtype: Any = None
) -> npt.NDArray[Any]:
    """Return the values of a field as the model reads them: (len(values), length).

    Texts and categories are strings, all else is float32 unless a dtype is given. None
    becomes MISSING in a text or a category, else NaN.
    """
    match field.kind:
        case Kind.TEXT if not field.optional:
            array = np.array(values, dtype=np.object_)
        case Kind.TEXT | Kind.CATEGORY:
            texts = [MISSING if value is None else as_text(value) for value in values]
            array = np.array(texts, dtype=np.object_)
        case Kind.VECTOR if field.optional:
            gap = [None] * field.length
            rows = [gap if value is None else value for value in values]
            array = np.array(rows, dtype=dtype or np.float32)
        case _:
            array = np.array(values, dtype=dtype or np.float32)
    return array.reshape(len(values), field.length)


class Fields(Generic[InstanceT]):
    """Convert the fields of a contract to arrays for the inputs of a model."""

    def __init__(
        self, contract: type[InstanceT], input_types: Mapping[str, str]
    ) -> None:
        """`input_types` holds ONNX Runtime's type of each input, by name.

        Raises ValueError, with the field, if the inputs do not match the contract.
        """
        self.kinds = read_kinds(contract)
        names = {field.name for field in self.kinds}
        if names != set(input_types):
            raise ValueError(describe_difference(names, set(input_types)))
        for field in self.kinds:
            given = input_types[field.name]
            is_text = field.kind in (Kind.TEXT, Kind.CATEGORY)
            if given not in DTYPES or is_text is not (given == "tensor(string)"):
                raise ValueError(
                    f"The field '{field.name}' is a {field.kind} in the contract, but "
                    f"the model takes {given} for it. {RETRAIN}"
                )
            if lost := _find_lost_value(field, given):
                raise ValueError(
                    f"The field '{field.name}' may be {lost} in the contract, but the "
                    f"model takes {given} for it, which cannot hold that. Write a "
                    f"narrower type in the contract. Or: {RETRAIN}"
                )
        self._columns = [
            (field, DTYPES[input_types[field.name]]) for field in self.kinds
        ]
        self._texts = [field.name for field in self.kinds if field.kind is Kind.TEXT]

    def arrays(self, instances: Sequence[InstanceT]) -> dict[str, npt.NDArray[Any]]:
        """Return an array of shape (len(instances), length) for each field."""
        return {
            field.name: to_array(
                field, [getattr(instance, field.name) for instance in instances], dtype
            )
            for field, dtype in self._columns
        }

    def size(self, instances: Sequence[InstanceT]) -> int:
        """Return characters plus instances: the time of a prediction grows with it."""
        return len(instances) + sum(
            len(getattr(instance, name) or "")
            for name in self._texts
            for instance in instances
        )


def _find_lost_value(field: FieldKind, input_type: str) -> str:
    """Return what an input would change without an error; an empty string if nothing.

    NumPy makes 1 of 1.5, and False of None.
    """
    if input_type not in ("tensor(int64)", "tensor(bool)"):
        return ""
    if field.optional:
        return "None"
    is_number = field.kind in (Kind.NUMBER, Kind.VECTOR)
    if is_number and not field.whole:
        return "a fraction"
    return "any number" if is_number and input_type == "tensor(bool)" else ""


def describe_difference(contract: Iterable[str], model: Iterable[str]) -> str:
    """Say which fields only the contract has, and which only the model takes."""
    missing, unknown = set(contract) - set(model), set(model) - set(contract)
    parts = []
    if missing:
        parts.append(f"the contract has {', '.join(sorted(missing))}")
    if unknown:
        parts.append(f"the model takes {', '.join(sorted(unknown))}")
    only = " and only ".join(parts)
    return f"The fields of contract and model differ: only {only}. {RETRAIN}"
