"""The serving engine: a FastAPI application around one ONNX model.

It knows no task and imports nothing of `app`, which holds the contract and the
endpoints of this service. `serving.build` assembles the whole stack of a request;
start to read there.
"""

import os

# ONNX Runtime reports its use over the network unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
