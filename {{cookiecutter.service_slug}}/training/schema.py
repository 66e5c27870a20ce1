"""Read what `app/contract.py` says about the training data: fields, task, split."""

from dataclasses import dataclass

from app import contract
from serving.contract import Contract, Task
from serving.fields import (
    FieldKind,
    Kind,
    check_field,
    read_kinds,
    read_task,
    read_types,
)
from training.stage import PipelineError

LABEL, GROUP, TIME = "label", "group", "time"

# The types that `group` and `time` may have, as JSON schemas call them.
GROUPS = {"string", "null"}
TIMES = {"date-time", "date", "time", "duration", "integer", "number", "null"}


@dataclass(frozen=True)
class Schema:
    """The columns of the training data and what they are for.

    `has_group` and `has_time` tell whether `LabelledInstance` has the columns `group`
    and `time`, which steer the split and are no inputs of the model.
    """

    instance: type[Contract]
    labelled: type[Contract]
    fields: tuple[FieldKind, ...]
    task: Task
    has_group: bool
    has_time: bool

    def of_kind(self, *kinds: Kind) -> list[FieldKind]:
        """Return the fields of some kinds."""
        return [field for field in self.fields if field.kind in kinds]


def read_schema() -> Schema:
    """Return what `app/contract.py` says. Raises PipelineError, as `make_schema`."""
    return make_schema(contract.Instance, contract.LabelledInstance)


def make_schema(instance: type[Contract], labelled: type[Contract]) -> Schema:
    """Return what a contract says.

    Raises PipelineError, with the field and what to write instead, if no model can
    read it.
    """
    names = set(instance.model_fields)
    if taken := names & {LABEL, GROUP, TIME}:
        raise PipelineError(
            f"Instance in app/contract.py has the field '{min(taken)}', which is no "
            "input: it belongs to LabelledInstance. Rename the input, or move it there."
        )
    if others := set(labelled.model_fields) - names - {LABEL, GROUP, TIME}:
        hint = "Add it to Instance if it is an input of the model, or remove it."
        if min(others) == "template":
            hint = "It is called `group` now: rename it there and in your data."
        raise PipelineError(
            f"LabelledInstance in app/contract.py has the field '{min(others)}', which "
            f"nothing reads. {hint}"
        )
    if missing := names - set(labelled.model_fields):
        raise PipelineError(
            f"LabelledInstance in app/contract.py lacks the field '{min(missing)}' of "
            "Instance. Let it derive from Instance."
        )
    _check_split(labelled)
    try:
        fields, task = read_kinds(instance), read_task(labelled)
        for name in labelled.model_fields:
            check_field(name, labelled)
    except ValueError as error:
        raise PipelineError(f"app/contract.py: {error}") from None
    has_group, has_time = (name in labelled.model_fields for name in (GROUP, TIME))
    return Schema(instance, labelled, fields, task, has_group, has_time)


def _check_split(labelled: type[Contract]) -> None:
    """Raise PipelineError if `group` is no text, or if `time` has no order."""
    for name, wanted in ((GROUP, GROUPS), (TIME, TIMES)):
        if name not in labelled.model_fields:
            continue
        types = {
            one.get("format", one.get("type")) for one in read_types(labelled)[name]
        }
        if len(types - {"null"}) != 1 or not types <= wanted:
            hint = "`group: str`: a number in the data is read as text"
            if name == TIME:
                hint = "`datetime`, `date`, `int` or `float`: text has another order"
            raise PipelineError(
                f"The field '{name}' of LabelledInstance in app/contract.py is of a "
                f"type that no split reads. Write {hint}. It may be `| None`."
            )
