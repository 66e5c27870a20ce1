"""Stage 5: export the model to ONNX and check that it predicts the same."""

import hashlib
import logging
import subprocess
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.pipeline import Pipeline

from app.contract import Instance
from serving.model import MODEL_FILE, OUTPUT, SIDECAR_FILE, Model, ModelError, Sidecar
from training.evaluate import load_pipeline
from training.files import read_bytes, read_json, read_rows, write_bytes
from training.ingest import text_field
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)

OPSET = 17

# What the model is made by: an edit of it is noted beside the commit.
CODE = ("app", "serving", "training", "dvc.yaml")

# Texts on which the tokenisers of Python and ONNX Runtime may differ.
EDGE_CASES = (
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
    pipeline = load_pipeline(config.paths.pipeline)
    test = read_rows(config.paths.test)
    content = convert(pipeline)
    check_parity(pipeline, content, list(test["text"]), config.parity.tolerance)

    sidecar = describe(pipeline, content, test["text"].iloc[0], config)
    verify(content, sidecar)
    target = config.paths.model
    write_bytes(target / MODEL_FILE, content)
    write_bytes(target / SIDECAR_FILE, _encode(sidecar))
    logger.info(
        "Model %s: %d labels, %d bytes",
        sidecar.version,
        len(sidecar.labels),
        len(content),
    )


def convert(pipeline: Pipeline) -> bytes:
    """Convert the pipeline to ONNX. The input has the name of the contract's field.

    Raises PipelineError if skl2onnx cannot convert it.
    """
    tfidf = pipeline.named_steps["tfidf"]
    classifier = pipeline.named_steps["classifier"]
    field = text_field()
    options = {
        # skl2onnx would use its own pattern.
        id(tfidf): {"tokenexp": tfidf.token_pattern},
        id(classifier): {"zipmap": False},
    }
    try:
        model = to_onnx(
            pipeline,
            initial_types=[(field, StringTensorType([None, 1]))],
            options=options,
            target_opset=OPSET,
        )
    except Exception as error:  # converters raise any exception
        reason = str(error).partition("\n")[0]
        raise PipelineError(
            f"skl2onnx cannot convert this model ({reason}). It takes runs of up to "
            "three words or characters; choose another of training/conf/model."
        ) from None
    # skl2onnx lists the operator sets in random order.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def check_parity(
    pipeline: Pipeline, content: bytes, texts: list[str], tolerance: float
) -> None:
    """Compare the exported model with the pipeline on every text and edge case.

    Raises PipelineError if a label differs, or a probability by more than `tolerance`.
    """
    texts = [*texts, *EDGE_CASES]
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    field = text_field()
    (exported,) = session.run(
        [OUTPUT], {field: np.array(texts, dtype=np.object_).reshape(-1, 1)}
    )
    expected = pipeline.predict_proba(texts)
    differences = np.abs(exported - expected).max(axis=1)
    other_label = exported.argmax(axis=1) != expected.argmax(axis=1)
    bad = (differences > tolerance) | other_label
    if bad.any():
        worst = int(np.where(bad, differences, -1).argmax())
        raise PipelineError(
            f"ONNX and scikit-learn differ on {bad.sum()} of {len(texts)} texts, most "
            f"on {texts[worst][:60]!r}: a probability differs by "
            f"{differences[worst]:.2g} (allowed: {tolerance}). The model cannot be "
            "served as it was trained; export another of training/conf/model."
        )
    logger.info(
        "ONNX equals scikit-learn on %d texts; largest difference %.1e",
        len(texts),
        differences.max(),
    )


def describe(
    pipeline: Pipeline, content: bytes, golden_text: str, config: Config
) -> Sidecar[Instance]:
    """Return the sidecar: facts about the model and its golden example."""
    digest = hashlib.sha256(content).hexdigest()
    golden = Instance(text=golden_text)
    data = read_bytes(config.paths.raw)
    training = read_json(config.paths.training)
    shares = read_rows(config.paths.train)["label"].value_counts(normalize=True)
    labels = [str(label) for label in pipeline.classes_]
    return Sidecar[Instance](
        version=digest[:12],
        sha256=digest,
        labels=labels,
        metrics=read_json(config.paths.metrics),
        # The hash in dvc.lock, which leads from a model to its data.
        data_hash="md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest(),
        git_revision=git_revision(),
        trained_at=datetime.fromisoformat(training["trained_at"]),
        training_label_shares={label: float(shares[label]) for label in labels},
        golden_instance=golden,
        golden_probabilities=pipeline.predict_proba([golden.text])[0].tolist(),
    )


def verify(content: bytes, sidecar: Sidecar[Instance]) -> None:
    """Load the model as the service does. Raises PipelineError if that fails."""
    with TemporaryDirectory() as directory:
        write_bytes(Path(directory) / MODEL_FILE, content)
        write_bytes(Path(directory) / SIDECAR_FILE, _encode(sidecar))
        try:
            Model.load(Path(directory), Instance)
        except ModelError as error:
            raise PipelineError(f"The service would not load it: {error}") from None


def git_revision() -> str:
    """Return the commit, with "+changes" if the code was edited, or "unknown"."""
    try:
        revision = _git("rev-parse", "HEAD").strip()
        edited = _git("status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if edited else "")


def _git(*arguments: str) -> str:
    return subprocess.check_output(
        ["git", *arguments], text=True, stderr=subprocess.DEVNULL
    )


def _encode(sidecar: Sidecar[Instance]) -> bytes:
    return sidecar.model_dump_json(indent=2).encode("utf-8") + b"\n"


if __name__ == "__main__":
    command(run)()
