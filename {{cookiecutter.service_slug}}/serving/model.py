"""Load and verify the model: `model.onnx` and its sidecar `model.json`.

`training.export` writes both files. Nothing is unpickled: ONNX and JSON hold data, not
code.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Generic, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import Field, ValidationError

from serving.container import usable_cpus
from serving.contract import ModelInfo
from serving.fields import Fields, InstanceT

MODEL_FILE = "model.onnx"
SIDECAR_FILE = "model.json"
OUTPUT = "probabilities"
# The last digits of float32 arithmetic differ between CPUs.
TOLERANCE = 1e-4
MEASURED_BATCH = 100

Probabilities = npt.NDArray[np.float32]


class ModelError(Exception):
    """The model cannot be served. The message gives the reason and the fix."""


class Sidecar(ModelInfo, Generic[InstanceT]):
    """The content of `model.json`: facts about the model and a golden example.

    `training_label_shares` is the share of each label in the training rows, for
    comparison with predictions (drift). `golden_probabilities` are the probabilities
    that the model must return for `golden_instance`, in the order of `labels`.
    """

    sha256: str
    training_label_shares: dict[str, Annotated[float, Field(ge=0, le=1)]]
    golden_instance: InstanceT
    golden_probabilities: list[Annotated[float, Field(ge=0, le=1)]]


class Classification(NamedTuple):
    """The most probable label, its score, and the probabilities of all labels."""

    label: str
    score: float
    probabilities: Probabilities


class Model(Generic[InstanceT]):
    """A loaded and verified model. Create it with `Model.load`."""

    def __init__(
        self,
        sidecar: Sidecar[InstanceT],
        session: ort.InferenceSession,
        fields: Fields[InstanceT],
    ) -> None:
        self.info = ModelInfo(**sidecar.model_dump(include=set(ModelInfo.model_fields)))
        self.labels = sidecar.labels
        self.version = sidecar.version
        self.training_label_shares = sidecar.training_label_shares
        self._seconds_per_call = 0.0
        self._seconds_per_size = 0.0
        self._session = session
        self._fields = fields

    @classmethod
    def load(cls, directory: Path, contract: type[InstanceT]) -> "Model[InstanceT]":
        """Load the model of a contract from a directory and verify it.

        Raises ModelError if a file is missing or damaged, if the files do not belong
        together, if the inputs do not match the contract, or if the golden example
        gives other probabilities.
        """
        content = _read(directory / MODEL_FILE)
        try:
            sidecar = Sidecar[contract].model_validate_json(  # type: ignore[valid-type]
                _read(directory / SIDECAR_FILE)
            )
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, mistake["loc"])) or "the file"
            raise ModelError(
                f"{directory / SIDECAR_FILE} is not what training writes: "
                f"{where}: {mistake['msg']}. Export the model again (make train)."
            ) from None

        found = hashlib.sha256(content).hexdigest()
        if found != sidecar.sha256:
            raise ModelError(
                f"{directory / MODEL_FILE} has the SHA-256 {found[:12]}… but "
                f"{SIDECAR_FILE} expects {sidecar.sha256[:12]}…: the file is truncated "
                "or was swapped. Fetch both again (dvc pull --force)."
            )

        session = _session(content)
        model = cls(sidecar, session, _fields(session, contract))
        model._check_golden(sidecar)
        model._measure(sidecar.golden_instance)
        return model

    def predict(self, instances: Sequence[InstanceT]) -> Probabilities:
        """Return probabilities of shape (len(instances), len(labels))."""
        feed = self._fields.arrays(instances)
        outputs: list[Probabilities] = self._session.run([OUTPUT], feed)
        return outputs[0]

    def classify(self, instances: Sequence[InstanceT]) -> list[Classification]:
        """Return the most probable label of each instance.

        Raises ArithmeticError if the model returns NaN.
        """
        rows = self.predict(instances)
        best = rows.argmax(axis=1)
        scores = rows[np.arange(len(rows)), best].clip(max=1.0)
        if np.isnan(scores).any():
            raise ArithmeticError(
                "The model returns no number for an instance: are its values too large?"
            )
        labels = [self.labels[label] for label in best.tolist()]
        return list(map(Classification, labels, scores.tolist(), rows))

    def expected_seconds(self, instances: Sequence[InstanceT]) -> float:
        """Estimate the seconds of `classify` from the times measured at load."""
        size = self._fields.size(instances)
        return self._seconds_per_call + self._seconds_per_size * size

    def _check_golden(self, sidecar: Sidecar[InstanceT]) -> None:
        expected = np.array(sidecar.golden_probabilities, dtype=np.float32)
        try:
            given = self.predict([sidecar.golden_instance])[0]
        except Exception as error:  # whatever ONNX Runtime raises
            raise ModelError(f"The golden example fails: {error}") from None
        if given.shape != expected.shape or len(self.labels) != len(expected):
            raise ModelError(
                f"The model returns {given.shape} probabilities; {SIDECAR_FILE} has "
                f"{len(self.labels)} labels and {len(expected)} expected probabilities."
            )
        worst = float(np.abs(given - expected).max())
        if not worst <= TOLERANCE:
            raise ModelError(
                "The golden example gives other probabilities than at the export: "
                f"off by {worst:.2g}, allowed is {TOLERANCE}."
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
            self.classify(instances)
            times.append(time.perf_counter() - start)
        return min(times)


def _fields(
    session: ort.InferenceSession, contract: type[InstanceT]
) -> Fields[InstanceT]:
    """Return the inputs of the model. Raises ModelError if they do not match."""
    outputs = [output.name for output in session.get_outputs()]
    if OUTPUT not in outputs:
        raise ModelError(f"The model has the outputs {outputs}, but no '{OUTPUT}'.")
    try:
        return Fields(
            contract, {given.name: given.type for given in session.get_inputs()}
        )
    except ValueError as error:
        raise ModelError(str(error)) from None


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
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's classes are not public
        raise ModelError(f"ONNX Runtime cannot load the model: {error}") from None
