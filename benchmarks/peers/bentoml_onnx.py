"""BentoML: `bentoml serve bentoml_onnx:Classifier`.

Its documentation advises adaptive batches, and a concurrency equal to their size.
They raise the rate at 64 connections; a request that comes alone waits for others, and
the longer the more of them there were before.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime as ort
from bentoml.validators import DType, Shape

Features = Annotated[np.ndarray, DType("float32"), Shape((-1, 30))]


@bentoml.service(workers=1, traffic={"concurrency": 64})
class Classifier:
    """Tells malignant from benign."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            Path(os.environ["MODEL_DIR"]) / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, features: Features) -> np.ndarray:
        """Return the probabilities of a batch."""
        (rows,) = self.session.run(["probabilities"], {"features": features})
        return rows
