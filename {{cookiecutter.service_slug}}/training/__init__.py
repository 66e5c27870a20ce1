"""The offline half: one module a DVC stage, configured by Hydra from `training/conf`.

It may import `app` (the contract and the model file); `app` never imports it.
"""

import serving  # noqa: F401  # before ONNX Runtime: it keeps it from reporting its use
