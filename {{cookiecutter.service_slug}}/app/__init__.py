"""The online half: a FastAPI service around one ONNX model.

It imports none of the other packages, so that its image holds the serving
dependencies only.
"""

import os

# ONNX Runtime reports its use over the network unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
