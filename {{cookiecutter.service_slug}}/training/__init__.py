"""The training pipeline: one module per DVC stage, configured by Hydra.

It imports `app` and `serving`, which never import it.
"""

import serving  # noqa: F401  # before ONNX Runtime: it turns telemetry off
