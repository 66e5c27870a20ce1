"""The form of an instance and the body of feedback, read from /openapi.json."""

import json
from dataclasses import dataclass
from typing import Any, Literal

Document = dict[str, Any]
Kind = Literal["text", "category", "number", "flag", "vector", "json"]

FEEDBACK = "/v1/feedback"
# A browser counts in float64: beyond it, an integer is not exact.
LARGEST = 2**53 - 1


@dataclass(frozen=True)
class Field:
    """A field of `Instance`: what it holds, and within which bounds.

    `nullable` says that it may be null, `required` that it may not be left out.
    `longest` bounds the characters of a text, `lowest` and `highest` bound a number; a
    bound that is not stated is None. `choices` are those of a category.
    """

    name: str
    kind: Kind
    help: str
    required: bool = True
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    whole: bool = False
    lowest: float | None = None
    highest: float | None = None
    longest: int | None = None

    @property
    def optional(self) -> bool:
        """Return whether an instance may lack a value for it."""
        return self.nullable or not self.required


def read_fields(document: Document) -> list[Field]:
    """Return the fields of `Instance`, in their order.

    A field of a kind that the form does not know is entered as JSON.
    """
    schema = document["components"]["schemas"]["Instance"]
    required = schema.get("required", [])
    return [
        _read_field(name, one, name in required, document)
        for name, one in schema["properties"].items()
    ]


def _read_field(name: str, schema: Document, required: bool, of: Document) -> Field:
    schema = resolve(schema, of)
    parts = [resolve(one, of) for one in schema.get("anyOf", [schema])]
    values = [one for one in parts if one.get("type") != "null"]
    one = values[0] if len(values) == 1 else {}
    choices = one.get("enum", [one["const"]] if "const" in one else [])
    nullable = len(values) < len(parts) or None in choices
    help_ = schema.get("description") or ""
    given: dict[str, Any] = {"required": required, "nullable": nullable}
    if choices:
        kept = tuple(choice for choice in choices if choice is not None)
        return Field(name, "category", help_, choices=kept, **given)
    match one.get("type"):
        case "string":
            return Field(name, "text", help_, longest=one.get("maxLength"), **given)
        case "boolean":
            return Field(name, "flag", help_, **given)
        case "number" | "integer" as type_:
            whole = type_ == "integer"
            lowest = _bound(one, "minimum", "exclusiveMinimum", whole)
            highest = _bound(one, "maximum", "exclusiveMaximum", whole)
            shown = _describe_range(lowest, highest)
            given |= {"lowest": lowest, "highest": highest, "whole": whole}
            return Field(
                name, "number", " ".join(filter(None, [help_, shown])), **given
            )
        case "array" if _is_number(resolve(one.get("items", {}), of)):
            length = one.get("minItems")
            count = f"{length} numbers" if length == one.get("maxItems") else "Numbers"
            shown = f"{count}, separated by commas or spaces."
            return Field(
                name, "vector", " ".join(filter(None, [help_, shown])), **given
            )
    return Field(name, "json", f"{help_} As JSON.".strip(), **given)


def resolve(schema: Document, document: Document) -> Document:
    """Return a schema, or the one that it refers to."""
    while "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
    return schema


def _is_number(schema: Document) -> bool:
    return schema.get("type") in ("number", "integer")


def _bound(schema: Document, name: str, exclusive: str, whole: bool) -> float | None:
    """Return a bound; None if it is none or beyond what a browser counts exactly."""
    bound: float | None = schema.get(name)
    if bound is None and exclusive in schema:
        step = 1 if exclusive == "exclusiveMinimum" else -1
        bound = schema[exclusive] + (step if whole else 0)
    return None if bound is None or abs(bound) > LARGEST else bound


def _describe_range(lowest: float | None, highest: float | None) -> str:
    if lowest is not None and highest is not None:
        return f"From {lowest:g} to {highest:g}."
    if lowest is not None:
        return f"At least {lowest:g}."
    return "" if highest is None else f"At most {highest:g}."


def read_numbers(text: str) -> list[Any]:
    """Return the numbers of a vector, each read as JSON."""
    return [read_json(word) for word in text.replace(",", " ").split()]


def read_json(text: str) -> Any:
    """Return the value of a JSON text; the service refuses other text, as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_instance(fields: list[Field], values: dict[str, Any]) -> dict[str, Any]:
    """Return the instance that was entered.

    A value of None is null where that is allowed, left out where that is, and else sent
    as null: the service says which values are missing.
    """
    return {
        field.name: values[field.name]
        for field in fields
        if values[field.name] is not None or field.nullable or field.required
    }


def takes_feedback(document: Document) -> bool:
    """Return whether the service takes what people say about a prediction."""
    return "post" in document["paths"].get(FEEDBACK, {})


def read_truth(document: Document) -> Field:
    """Return the `label` or, of a regression, the `value` of an item of feedback."""
    body = document["paths"][FEEDBACK]["post"]["requestBody"]
    request = resolve(body["content"]["application/json"]["schema"], document)
    item = resolve(request["properties"]["feedback"]["items"], document)
    name = "value" if "value" in item["properties"] else "label"
    return _read_field(name, item["properties"][name], False, document)


def make_feedback(
    instance: dict[str, Any], answer: dict[str, Any], said: dict[str, Any]
) -> dict[str, Any]:
    """Return the body of a request with one item, without its `id`.

    `answer` is that of the service to the instance alone; `said` is the truth, or
    `{"correct": True}`.
    """
    (prediction,) = answer["predictions"]
    known = {
        name: prediction[name]
        for name in ("label", "value", "score")
        if name in prediction
    }
    item = {
        "prediction_id": prediction["id"],
        "instance": instance,
        "prediction": known | {"model_version": answer["model_version"]},
        "source": "demo",
    }
    return {"feedback": [item | said]}
