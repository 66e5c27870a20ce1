"""Load and verify the model: `model.onnx` and its sidecar `model.json`.

`training.export` writes both files. Nothing is unpickled: ONNX and JSON hold data, not
code.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import Field, ValidationError

from serving.container import usable_cpus
from serving.contract import ModelInfo
from serving.fields import OUTPUTS, RETRAIN, Fields, InstanceT, describe_kinds
from serving.problems import NO_PREDICTION, ProblemError

MODEL_FILE = "model.onnx"
SIDECAR_FILE = "model.json"
# The last digits of float32 arithmetic differ between CPUs.
TOLERANCE = 1e-4
MEASURED_BATCH = 100

Row = npt.NDArray[np.float32]


class ModelError(Exception):
    """The model cannot be served. The message gives the reason and the fix."""


class Sidecar(ModelInfo):
    """The content of `model.json`: facts about the model and a golden example.

    `training_shares` is the share of each outcome in the training rows, for comparison
    with predictions (drift): of each label, or of each tenth of the values.
    `golden_answer` is what the model must return for `golden_instance`: the
    probabilities in the order of `labels`, or the value.
    """

    sha256: str
    training_shares: dict[str, Annotated[float, Field(ge=0, le=1)]]
    golden_instance: dict[str, Any]
    golden_answer: Annotated[list[float], Field(min_length=1)]


class Answer(NamedTuple):
    """The answer to an instance, by the task of the model.

    A classification has a label, its score and the probabilities of all labels; it has
    `abstained` if the score is below the threshold. A regression has a value.
    """

    label: str | None = None
    score: float | None = None
    abstained: bool = False
    probabilities: Row | None = None
    value: float | None = None


class Model(Generic[InstanceT]):
    """A loaded and verified model. Create it with `Model.load`."""

    def __init__(
        self,
        sidecar: Sidecar,
        session: ort.InferenceSession,
        fields: Fields[InstanceT],
    ) -> None:
        self.info = ModelInfo(**sidecar.model_dump(include=set(ModelInfo.model_fields)))
        self.labels = sidecar.labels
        self.version = sidecar.version
        self.training_shares = sidecar.training_shares
        self._threshold = sidecar.threshold or 0.0
        self._output = OUTPUTS[sidecar.task]
        self._seconds_per_call = 0.0
        self._seconds_per_size = 0.0
        self._golden: InstanceT | None = None
        self._session = session
        self._fields = fields

    @classmethod
    def load(cls, directory: Path, contract: type[InstanceT]) -> "Model[InstanceT]":
        """Load the model of a contract from a directory and verify it.

        Raises ModelError if a file is missing or damaged, if the files do not belong
        together, if the fields do not match the contract, or if the golden example
        gets another answer.
        """
        content = _read(directory / MODEL_FILE)
        try:
            sidecar = Sidecar.model_validate_json(_read(directory / SIDECAR_FILE))
        except ValidationError as error:
            raise ModelError(
                f"{directory / SIDECAR_FILE} is not what training writes: "
                f"{_first_mistake(error)}. Export the model again (make train)."
            ) from None

        found = hashlib.sha256(content).hexdigest()
        if found != sidecar.sha256:
            raise ModelError(
                f"{directory / MODEL_FILE} has the SHA-256 {found[:12]}… but "
                f"{SIDECAR_FILE} expects {sidecar.sha256[:12]}…: the file is truncated "
                "or was swapped. Fetch both again (dvc pull --force)."
            )

        session = _session(content)
        fields = _fields(session, contract, sidecar)
        golden = _golden_instance(contract, sidecar)
        model = cls(sidecar, session, fields)
        model._golden = golden
        model._check_golden(golden, sidecar)
        model._measure(golden)
        return model

    def predict(self, instances: Sequence[InstanceT]) -> Row:
        """Return what the model gives: probabilities of each label, or one value each.

        The shape is (len(instances), len(labels)), or (len(instances), 1).
        """
        feed = self._fields.arrays(instances)
        outputs: list[Row] = self._session.run([self._output], feed)
        return outputs[0]

    def answer(self, instances: Sequence[InstanceT]) -> list[Answer]:
        """Return the answer to each instance.

        Raises ProblemError (422), with the instance, if the model returns no number or
        fails for it.
        """
        try:
            rows = self.predict(instances)
        except Exception as error:  # ONNX Runtime's classes are not public
            if (first := self._find_failing(instances)) is None:
                raise
            raise _no_prediction(
                first, "it has a value that the model does not know"
            ) from error
        if not np.isfinite(rows).all():
            first, *_ = np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist()
            raise _no_prediction(
                first, "its numbers are too large, or without a result, such as log(-1)"
            )
        if not self.labels:
            return [Answer(value=value) for value in rows[:, 0].tolist()]
        best = rows.argmax(axis=1)
        scores = np.minimum(rows[np.arange(len(rows)), best], 1.0).tolist()
        labels = [self.labels[label] for label in best.tolist()]
        abstained = [score < self._threshold for score in scores]
        return list(map(Answer, labels, scores, abstained, rows))

    def expected_seconds(self, instances: Sequence[InstanceT]) -> float:
        """Estimate the seconds of `answer` from the times measured at load."""
        size = self._fields.size(instances)
        return self._seconds_per_call + self._seconds_per_size * size

    def _find_failing(self, instances: Sequence[InstanceT]) -> int | None:
        """Return the first instance that the model fails for.

        Return None if it fails for none alone, or for every instance. The calls take at
        most as long as two for all instances.
        """
        if self._golden is None or self._fails_for([self._golden]):
            return None
        first, end = 0, len(instances)
        while end - first > 1:
            middle = (first + end) // 2
            if self._fails_for(instances[first:middle]):
                end = middle
            else:
                first = middle
        return first if self._fails_for(instances[first:end]) else None

    def _fails_for(self, instances: Sequence[InstanceT]) -> bool:
        try:
            self.predict(instances)
        except Exception:
            return True
        return False

    def _check_golden(self, instance: InstanceT, sidecar: Sidecar) -> None:
        expected = np.array(sidecar.golden_answer, dtype=np.float32)
        try:
            given = self.predict([instance])[0]
        except Exception as error:  # whatever ONNX Runtime raises
            raise ModelError(f"The golden example fails: {error}") from None
        if given.shape != expected.shape or len(self.labels or [0]) != len(expected):
            raise ModelError(
                f"The model returns {given.shape} numbers for an instance; "
                f"{SIDECAR_FILE} has {len(self.labels)} labels and expects "
                f"{len(expected)} numbers."
            )
        # Values have any size; probabilities are at most 1.
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        worst = float(np.abs(given - expected).max())
        if not worst <= allowed:
            raise ModelError(
                "The golden example gets another answer than at the export: "
                f"off by {worst:.2g}, allowed is {allowed:.2g}."
            )

    def _measure(self, instance: InstanceT) -> None:
        one = self._time([instance])
        many = self._time([instance] * MEASURED_BATCH)
        extra = max(many - one, 0.0) / (MEASURED_BATCH - 1)
        self._seconds_per_call = one
        self._seconds_per_size = extra / self._fields.size([instance])

    def _time(self, instances: Sequence[InstanceT]) -> float:
        """Return the seconds of the fastest of up to five calls.

        A slow model is called only once, to keep the start short.
        """
        times: list[float] = []
        while len(times) < 5 and sum(times) < 0.05:
            start = time.perf_counter()
            self.answer(instances)
            times.append(time.perf_counter() - start)
        return min(times)


def _no_prediction(number: int, reason: str) -> ProblemError:
    return ProblemError(
        NO_PREDICTION,
        f"The model has no answer to instance {number}, counted from 0: {reason}.",
    )


def _fields(
    session: ort.InferenceSession, contract: type[InstanceT], sidecar: Sidecar
) -> Fields[InstanceT]:
    """Return the inputs of the model. Raises ModelError if they do not match."""
    outputs = [output.name for output in session.get_outputs()]
    wanted = OUTPUTS[sidecar.task]
    if wanted not in outputs:
        raise ModelError(f"The model has the outputs {outputs}, but no '{wanted}'.")
    try:
        fields = Fields(
            contract, {given.name: given.type for given in session.get_inputs()}
        )
    except ValueError as error:
        raise ModelError(str(error)) from None
    for name, kind in describe_kinds(fields.kinds).items():
        if (trained := sidecar.fields.get(name)) != kind:
            raise ModelError(
                f"The field '{name}' is a {kind} in the contract, but the model was "
                f"trained on a {trained}. {RETRAIN}"
            )
    return fields


def _golden_instance(contract: type[InstanceT], sidecar: Sidecar) -> InstanceT:
    try:
        return contract.model_validate_json(json.dumps(sidecar.golden_instance))
    except ValidationError as error:
        raise ModelError(
            "The golden example breaks the contract: "
            f"{_first_mistake(error)}. {RETRAIN}"
        ) from None


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors()[0]
    where = ".".join(map(str, mistake["loc"])) or "the file"
    return f"{where}: {mistake['msg']}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). "
            "Train the model (make train) or fetch it (dvc pull)."
        ) from None


def _session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.inter_op_num_threads = 1
    # Spinning threads would use up the CPU quota of the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what fails, fails with an exception
    try:
        return ort.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's classes are not public
        raise ModelError(f"ONNX Runtime cannot load the model: {error}") from None
