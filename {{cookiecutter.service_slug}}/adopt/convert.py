"""The stage of an adopted model: write what is served of an ONNX file made elsewhere.

python -m adopt.convert data/source/model.onnx LABELS=a,b,c LOGITS=1 OUTPUT=logits

The fields are those of app/contract.py; the first sample of app/examples.py is the
golden instance.
"""

import csv
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from pydantic import ValidationError

from adopt.graph import (
    INSIDE,
    Output,
    adapt,
    choose_output,
    connect,
    describe_failure,
    find_outputs,
    find_shares,
    make_session,
    read_source,
)
from adopt.names import join_names
from serving.contract import Contract, Task
from serving.fields import (
    OUTPUTS,
    Fields,
    describe_kinds,
    dump_fields,
    read_kinds,
)
from serving.model import MODEL_FILE, SIDECAR_FILE, Model, ModelError, Sidecar
from serving.problems import shorten
from training.files import write_bytes
from training.revision import git_revision
from training.stage import PipelineError

MODELS = Path("models")
# How far the probabilities of a row may be from a sum of 1.
TOLERANCE = 1e-3
# A system takes a command of 128 KiB.
MOST_TEXT = 100_000


@dataclass(frozen=True)
class Choices:
    """What the file itself does not say: labels, kind of numbers, output."""

    labels: tuple[str, ...] = ()
    logits: bool = False
    output: str = ""

    @property
    def arguments(self) -> list[str]:
        """Return the choices as the command line takes them."""
        values = {
            "LABELS": join_names(self.labels),
            "LOGITS": "1" if self.logits else "",
            "OUTPUT": self.output,
        }
        return [f"{name}={value}" for name, value in values.items() if value]


def read_choices(variables: Mapping[str, str]) -> Choices:
    """Return the choices. Raises PipelineError for labels that cannot be told apart."""
    labels = read_labels(variables.get("LABELS", ""))
    logits = variables.get("LOGITS", "").lower() not in ("", "0", "n", "no", "false")
    return Choices(labels, logits, variables.get("OUTPUT", ""))


def read_labels(text: str) -> tuple[str, ...]:
    """Return the labels in the value of LABELS: a,b or "a, b",c.

    It may also be a file, or several lines, with a label on each. Raises PipelineError.
    """
    shown = shorten(text.strip())
    if not shown:
        return ()
    where = f"LABELS={shown}"
    is_file = os.path.isfile(file := os.path.expanduser(text.strip()))
    if is_file:
        text = _read_labels_file(Path(file))
    labels = text.rstrip().splitlines()
    try:
        if len(labels) == 1:
            (labels,) = csv.reader(labels, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise PipelineError(
            f"{where}: {error}. Put a label with a comma in quotes, and double the "
            "quotes that it has itself: LABELS='a,\"b, c\"'."
        ) from None
    labels = [label.strip() for label in labels]
    if "" in labels:
        raise PipelineError(
            f"{where}: the label {labels.index('') + 1} is empty. Name each label of "
            "the model, in its order, or take out what is no label."
        )
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise PipelineError(
            f"{where}: {shorten(', '.join(twice))} stands there more than once, but "
            "labels must differ. Give each label of the model a name of its own."
        )
    if len(labels) == 1:
        raise PipelineError(
            f"{where} {'has' if is_file else 'is no file, but'} one label. Name two or "
            "more labels, with commas between them (LABELS=a,b,c), or a file with one "
            "on each line."
        )
    if len(join_names(labels)) > MOST_TEXT:
        raise PipelineError(
            f"{where}: the labels have over {MOST_TEXT:,} characters, which the "
            "command of a stage cannot have. Give them shorter names."
        )
    return tuple(labels)


def _read_labels_file(path: Path) -> str:
    """Return the text of a file with a label on each line. Raises PipelineError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"LABELS={path} cannot be read: {error}. Save it as text in UTF-8."
        ) from None
    if text.lstrip()[:1] in ("", "[", "{"):
        raise PipelineError(
            f"LABELS={path} has no labels, or is JSON. Write a label on each line, in "
            "the order of the model."
        )
    return text


def convert(
    path: Path,
    choices: Choices,
    contract: type[Contract],
    samples: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, bytes], Output]:
    """Return the files of the model, proven as the service proves them.

    The second value is the output of the given file that is served. Raises
    PipelineError, with the reason and the fix.
    """
    source = read_source(path)
    if choices.logits and not choices.labels:
        raise PipelineError(
            "LOGITS=1 makes probabilities of labels, and there are none: name them "
            "(LABELS=a,b,c), or leave LOGITS out if the model predicts a number."
        )
    try:
        fields = read_kinds(contract)
    except ValueError as error:
        raise PipelineError(f"app/contract.py: {error}") from None
    model = connect(source, fields)
    instances = read_samples(contract, samples)
    output = find_output(model, choices, instances, path)
    content = adapt(model, output, choices.labels, choices.logits)
    answers = _predict(content, instances, choices, path)
    if not np.isfinite(answers).all():
        raise PipelineError(
            f"{path} gives no number for a sample of app/examples.py. Give it samples "
            "that the model was made for: SAMPLE=FILE."
        )
    if choices.labels:
        _check_probabilities(answers, choices, path)
    digest = hashlib.sha256(content).hexdigest()
    sidecar = Sidecar(
        version=digest[:12],
        sha256=digest,
        task=Task.CLASSIFICATION if choices.labels else Task.REGRESSION,
        fields=describe_kinds(fields),
        labels=[*choices.labels],
        metrics={},  # nobody has measured it here
        refitted=False,
        data_hash="md5:" + hashlib.md5(path.read_bytes()).hexdigest(),
        git_revision=git_revision(),
        trained_at=datetime.now(UTC).replace(microsecond=0),
        training_shares={},
        golden_instance=dump_fields(instances[0]),
        golden_answer=answers[0].tolist(),
    )
    files = {
        MODEL_FILE: content,
        SIDECAR_FILE: sidecar.model_dump_json(indent=2).encode() + b"\n",
    }
    with TemporaryDirectory() as directory:
        for name, written in files.items():
            write_bytes(Path(directory) / name, written)
        try:
            Model.load(Path(directory), contract)
        except ModelError as error:
            raise PipelineError(
                f"{path}: the service would not load it: {error}"
            ) from None
    return files, output


def read_samples(
    contract: type[Contract], samples: Sequence[Mapping[str, Any]]
) -> list[Contract]:
    """Return the samples as instances. Raises PipelineError."""
    instances = list[Contract]()
    for number, sample in enumerate(samples, start=1):
        try:
            instances.append(contract.model_validate(dict(sample), strict=False))
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, mistake["loc"]))
            raise PipelineError(
                f"The sample {number}, of SAMPLE or of app/examples.py, breaks the "
                f"contract: {where}: {mistake['msg']}. Correct it, or leave it out."
            ) from None
    if not instances:
        raise PipelineError("app/examples.py has no sample: the first one is golden.")
    return instances


def find_output(
    model: onnx.ModelProto,
    choices: Choices,
    instances: Sequence[Contract],
    path: Path,
) -> Output:
    """Return the output of a connected model that is to be served.

    Raises PipelineError if none or several could be it, or if the model fails.
    """
    session = make_session(model, path)
    fields = _make_fields(session, instances)
    outputs = find_outputs(
        session, lambda rows: fields.arrays([*instances[:1]] * rows), path
    )
    output = choose_output(outputs, choices.output, choices.labels)
    shares = find_shares(model, output)
    if shares == "Softmax" and output.width == 1:
        raise PipelineError(
            f"The output '{output.name}' is a softmax of one number, which is 1 for "
            "every row. Export the number without it, and add LOGITS=1."
        )
    if not choices.logits:
        return output
    try:
        rows = session.run([INSIDE + output.name], fields.arrays(instances))[0]
    except Exception as error:  # whatever ONNX Runtime raises
        raise PipelineError(describe_failure(path, "all samples", error)) from None
    if shares or output.width > 1 and _are_shares(rows, TOLERANCE / 100):
        reason = f"they come from a {shares}" if shares else "each row has a sum of 1"
        raise PipelineError(
            f"LOGITS: the numbers of the output '{output.name}' are probabilities "
            f"already: {reason}. Leave LOGITS out."
        )
    return output


def _make_fields(
    session: ort.InferenceSession, instances: Sequence[Contract]
) -> Fields[Contract]:
    types = {one.name: one.type for one in session.get_inputs()}
    return Fields(type(instances[0]), types)


def _predict(
    content: bytes,
    instances: Sequence[Contract],
    choices: Choices,
    path: Path,
) -> Any:
    """Return the answers. Raises PipelineError if they depend on what else is asked."""
    session = make_session(onnx.load_model_from_string(content), path)
    fields = _make_fields(session, instances)
    task = Task.CLASSIFICATION if choices.labels else Task.REGRESSION

    def run(rows: Sequence[Contract], name: str) -> Any:
        try:
            return session.run([OUTPUTS[task]], fields.arrays(rows))[0]
        except Exception as error:  # whatever ONNX Runtime raises
            raise PipelineError(describe_failure(path, name, error)) from None

    names = (f"the sample {number}" for number in range(1, len(instances) + 1))
    parts = [run([one], name) for one, name in zip(instances, names, strict=True)]
    alone = np.concatenate(parts * 2)
    together = run([*instances, *instances], "all samples")
    if not np.allclose(together, alone, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise PipelineError(
            f"{path} answers a row otherwise when others are asked with it, and the "
            "service asks for several requests at once. Export it in the mode of "
            "inference (model.eval()), with a batch axis of any size."
        )
    return alone


def _are_shares(rows: Any, tolerance: float) -> bool:
    """Return whether each row has numbers from 0 on with a sum of 1."""
    is_one = np.allclose(rows.sum(axis=1), 1, atol=tolerance)
    return bool(rows.min() >= -tolerance and is_one)


def _check_probabilities(answers: Any, choices: Choices, path: Path) -> None:
    lowest, highest = answers.min(), answers.max()
    is_shares = _are_shares(answers, TOLERANCE)
    if is_shares:
        return
    shown = ", ".join(f"{number:.3g}" for number in answers[0])
    fix = "" if choices.logits else " If they are logits: LOGITS=1 adds a softmax."
    raise PipelineError(
        f"{path} gives {shown} for a sample: numbers from {lowest:.3g} to "
        f"{highest:.3g}, which are no probabilities of {len(choices.labels)} labels: "
        f"they are not from 0 to 1 with a sum of 1.{fix}"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the files of the model and return the exit code."""
    from app.contract import Instance
    from app.examples import EXAMPLES

    path, *choices = arguments
    try:
        variables = dict(choice.split("=", 1) for choice in choices)
        files, _ = convert(Path(path), read_choices(variables), Instance, EXAMPLES)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    for name, content in files.items():
        write_bytes(MODELS / name, content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
