"""LitServe: `python litserve_onnx.py PORT`.

Its documentation advises batches for throughput, and the fast queue from a hundred
requests a second on. Batches raise the rate at 64 connections; a request that comes
alone waits for others in vain.
"""

import os
import sys
from pathlib import Path
from typing import Any

import litserve as ls
import numpy as np
import onnxruntime as ort


class Classifier(ls.LitAPI):
    """Tells malignant from benign."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            Path(os.environ["MODEL_DIR"]) / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )

    # LitServe gives types of `request` and of the answer to FastAPI.
    def decode_request(self, request):
        """Return a row of the batch."""
        return np.array(request["features"], dtype=np.float32)

    def predict(self, x: Any) -> Any:
        """Return the probabilities of a batch."""
        (rows,) = self.session.run(["probabilities"], {"features": x})
        return rows

    def encode_response(self, output):
        """Return the answer to one request."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.005)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
