"""Stage 6: export the model to ONNX and check that it predicts the same."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from serving.contract import TENTHS, Task
from serving.fields import OUTPUTS, FieldKind, Kind, describe_kinds, dump_fields
from serving.model import MODEL_FILE, SIDECAR_FILE, Model, ModelError, Sidecar
from training.columns import (
    Arrays,
    make_instance,
    read_columns,
    read_inputs,
    read_labels,
    to_arrays,
    to_inputs,
)
from training.evaluate import load_pipeline
from training.files import hash_content, read_bytes, read_json, write_bytes
from training.revision import git_revision
from training.rows import read_rows
from training.schema import Schema, read_schema
from training.scores import Output, Truth
from training.splits import SplitKind, find_kind
from training.stage import PipelineError, command
from training.train import fit, label_names, predict
from training.values import Config

logger = logging.getLogger(__name__)

WRITTEN = ("model",)

# With the newest ai.onnx.ml, skl2onnx converts boosted trees wrongly.
OPSET = {"": 21, "ai.onnx.ml": 3}

# Texts on which the tokenisers of Python and ONNX Runtime may differ.
EDGE_TEXTS = (
    "",
    " ",
    "!?",
    "a",
    "café déjà vu naïve straße",
    "e\u0301 combining, \u200b zero width, \u00a0 no-break",
    "打开厨房的灯",
    "台所の電気をつけて",
    "रसोई की बत्ती जलाओ",
    "أطفئ الأضواء",
    "turn on 🎉 the 💡 lights 👩‍👩‍👧",
    "tabs\tand\nnew lines\x00and a null",
    "x" * 10_000,
    "turn on the lights " * 526,
)


def run(config: Config) -> None:
    """Write `model.onnx` and `model.json` into `paths.model`.

    Raises PipelineError if ONNX Runtime and scikit-learn disagree. The earlier model
    is then unchanged.
    """
    schema = read_schema()
    pipeline = load_pipeline(config.paths.pipeline)
    rows = read_rows(config.paths.train, schema.labelled)
    test = read_rows(config.paths.test, schema.labelled)
    # A test file stays what the next model is tested on.
    refitted = config.refit and find_kind(schema, rows, config) is not SplitKind.FILE
    if refitted:
        rows = pd.concat([rows, test], ignore_index=True)
        pipeline = fit(clone(pipeline), schema, rows)
    content = convert(pipeline, schema)
    check_parity(pipeline, schema, content, test, config.parity.tolerance)

    sidecar = describe(pipeline, schema, content, rows, test, config, refitted)
    verify(schema, content, sidecar)
    target = config.paths.model
    write_bytes(target / MODEL_FILE, content)
    write_bytes(target / SIDECAR_FILE, _encode(sidecar))
    logger.info(
        "Model %s of %d rows: %s, %d bytes",
        sidecar.version,
        len(rows),
        sidecar.task,
        len(content),
    )


def convert(pipeline: Pipeline, schema: Schema) -> bytes:
    """Convert the pipeline to ONNX. The inputs have the names of the fields.

    Raises PipelineError if skl2onnx cannot convert it.
    """
    columns, estimator = (pipeline.named_steps[x] for x in ("columns", "estimator"))
    options: dict[int, dict[str, Any]] = {
        # skl2onnx would use its own pattern.
        id(text): {"tokenexp": text.token_pattern}
        for text in columns.named_transformers_.values()
        if hasattr(text, "token_pattern")
    }
    if schema.task is Task.CLASSIFICATION:
        options[id(estimator)] = {"zipmap": False}
    inputs = [(field.name, _onnx_type(field)) for field in schema.fields]
    try:
        with _whole_attributes():
            model = to_onnx(
                pipeline, initial_types=inputs, options=options, target_opset=OPSET
            )
    except Exception as error:  # converters raise any exception
        reason = str(error).partition("\n")[0]
        raise PipelineError(
            f"skl2onnx cannot convert this model ({reason}). It takes n-grams of up to "
            "three words or characters; choose another of training/conf/model."
        ) from None
    # skl2onnx lists the operator sets in random order.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def check_parity(
    pipeline: Pipeline,
    schema: Schema,
    content: bytes,
    rows: pd.DataFrame,
    tolerance: float,
) -> None:
    """Compare the exported model with the pipeline on rows, and on edge cases of them.

    Raises PipelineError if a probability differs by more than `tolerance`, or a value
    by more than that share of it. Of an edge case the model may return no number: the
    service then says so.
    """
    columns = read_columns(rows)
    cases = edge_cases(schema, columns)
    scale = None
    if schema.task is Task.REGRESSION:
        scale = max(float(np.std(read_labels(schema, rows))), 1e-30)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for given, is_edge in ((columns, False), (cases, True)):
        arrays = to_arrays(schema.fields, given)
        expected = predict(pipeline, to_inputs(schema.fields, arrays))
        exported = _run(session, schema, arrays)
        differences = _compare(expected, exported, scale)
        has_answer = np.isfinite(exported).all(axis=1)
        bad = ~has_answer & (not is_edge) | has_answer & ~(differences <= tolerance)
        if bad.any():
            place = int(
                np.where(bad, np.nan_to_num(differences, nan=np.inf), -1).argmax()
            )
            row = {field.name: given[field.name][place] for field in schema.fields}
            raise PipelineError(
                f"ONNX and scikit-learn differ on {bad.sum()} of {len(bad)} rows, most "
                f"on {str(row)[:200]}: by {differences[place]:.2g} (allowed: "
                f"{tolerance}). The model cannot be served as it was trained; export "
                "another of training/conf/model."
            )
        worst = max(worst, *differences[has_answer].tolist(), 0.0)
    logger.info(
        "ONNX equals scikit-learn on %d rows, %d edge cases; largest difference %.1e",
        len(rows),
        len(next(iter(cases.values()))),
        worst,
    )


def _compare(
    expected: Output, exported: npt.NDArray[np.float32], scale: float | None
) -> npt.NDArray[np.float64]:
    """Return the largest difference of each row.

    With a scale, it is a share of the expected value, or of the scale if that is more.
    """
    differences = np.abs(exported - expected)
    if scale is not None:
        differences = differences / np.maximum(np.abs(expected), scale)
    largest: npt.NDArray[np.float64] = differences.max(axis=1)
    return largest


def edge_cases(schema: Schema, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the first row with each field in turn replaced by each extreme value."""
    first = {field.name: columns[field.name][0] for field in schema.fields}
    rows = [
        first | {field.name: value}
        for field in schema.fields
        for value in _extremes(field, first[field.name])
    ]
    return {name: [row[name] for row in rows] for name in first}


def _extremes(field: FieldKind, given: Any) -> list[Any]:
    values: list[Any] = [None] if field.optional else []
    numbers = {field.lowest, field.highest}
    if field.lowest <= 0 <= field.highest:
        numbers.add(0.0)
    match field.kind:
        case Kind.TEXT:
            return [*values, *EDGE_TEXTS]
        case Kind.CATEGORY:
            return [*values, *field.choices]
        case Kind.FLAG:
            return [*values, False, True]
        case Kind.NUMBER:
            return [*values, *sorted(numbers)]
        case Kind.VECTOR:
            rest = [0.0] * field.length if given is None else list(given)
            return [*values, *([number, *rest[1:]] for number in sorted(numbers))]


def describe(
    pipeline: Pipeline,
    schema: Schema,
    content: bytes,
    rows: pd.DataFrame,
    test: pd.DataFrame,
    config: Config,
    refitted: bool,
) -> Sidecar:
    """Return the sidecar: facts about the model and its golden example.

    `rows` are those that the pipeline was fitted on; the first of `test` is the golden
    example.
    """
    digest = hashlib.sha256(content).hexdigest()
    data = read_bytes(config.paths.raw)
    training = read_json(config.paths.training)
    truth, labels = read_labels(schema, rows), label_names(pipeline)
    if schema.task is Task.REGRESSION:
        deciles, shares = _count_tenths(truth)
    else:
        deciles = []
        shares = {label: float((truth == label).mean()) for label in labels}
    golden = {name: one for name, (one,) in read_columns(test.iloc[:1]).items()}
    instance = make_instance(schema, golden)
    return Sidecar(
        version=digest[:12],
        sha256=digest,
        task=schema.task,
        fields=describe_kinds(schema.fields),
        labels=labels,
        threshold=config.threshold if labels else None,
        deciles=deciles,
        metrics=read_json(config.paths.metrics),
        refitted=refitted,
        data_hash="md5:" + hash_content(data),
        git_revision=git_revision(),
        trained_at=datetime.fromisoformat(training["trained_at"]),
        training_shares=shares,
        golden_instance=dump_fields(instance),
        golden_answer=predict(pipeline, read_inputs(schema, test.iloc[:1]))[0].tolist(),
    )


def _count_tenths(truth: Truth) -> tuple[list[float], dict[str, float]]:
    """Return the deciles, with both ends, and the share of the rows in each tenth."""
    deciles = np.quantile(truth, np.linspace(0, 1, len(TENTHS) + 1)).tolist()
    tenths = np.searchsorted(deciles[1:-1], truth, side="left")
    counts = np.bincount(tenths, minlength=len(TENTHS))
    return deciles, dict(zip(TENTHS, (counts / len(truth)).tolist(), strict=True))


def verify(schema: Schema, content: bytes, sidecar: Sidecar) -> None:
    """Load the model as the service does. Raises PipelineError if that fails."""
    with TemporaryDirectory() as directory:
        write_bytes(Path(directory) / MODEL_FILE, content)
        write_bytes(Path(directory) / SIDECAR_FILE, _encode(sidecar))
        try:
            Model.load(Path(directory), schema.instance)
        except ModelError as error:
            raise PipelineError(f"The service would not load it: {error}") from None


def _onnx_type(field: FieldKind) -> Any:
    is_text = field.kind in (Kind.TEXT, Kind.CATEGORY)
    return (StringTensorType if is_text else FloatTensorType)([None, field.length])


def _run(
    session: ort.InferenceSession, schema: Schema, arrays: Arrays
) -> npt.NDArray[np.float32]:
    (exported,) = session.run([OUTPUTS[schema.task]], arrays)
    return exported  # type: ignore[no-any-return]


@contextmanager
def _whole_attributes() -> Iterator[None]:
    """Make skl2onnx write an attribute of tree nodes as integers.

    It writes booleans, which protobuf 7 refuses:
    https://github.com/onnx/sklearn-onnx/blob/main/skl2onnx/common/tree_ensemble.py
    """
    add_node = tree_ensemble.add_node

    def add(
        *args: Any, nodes_missing_value_tracks_true: Any = 0, **options: Any
    ) -> None:
        missing = int(nodes_missing_value_tracks_true)
        add_node(*args, nodes_missing_value_tracks_true=missing, **options)

    with patch.object(tree_ensemble, "add_node", add):
        yield


def _encode(sidecar: Sidecar) -> bytes:
    return sidecar.model_dump_json(indent=2).encode("utf-8") + b"\n"


if __name__ == "__main__":
    command(run, written=WRITTEN)()
