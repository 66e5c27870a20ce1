"""The serving engine: a FastAPI application around one ONNX model.

It knows no task and imports nothing from `app`, which holds the contract and the
endpoints of this service. Start reading at `serving.build`, which assembles the stack.
"""

import os

# Must be set before ONNX Runtime is imported, or it sends telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
