"""The limit: an ASGI function and ONNX Runtime, nothing checked, nothing counted."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

JSON = [(b"content-type", b"application/json")]

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(
    Path(os.environ["MODEL_DIR"]) / "model.onnx",
    options,
    providers=["CPUExecutionProvider"],
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer POST with probabilities, and everything else with success."""
    if scope["type"] != "http":
        return
    content = b"{}"
    if scope["method"] == "POST":
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        features = np.array([json.loads(body)["features"]], dtype=np.float32)
        (rows,) = session.run(["probabilities"], {"features": features})
        content = json.dumps({"probabilities": rows[0].tolist()}).encode()
    length = (b"content-length", str(len(content)).encode())
    await send(
        {"type": "http.response.start", "status": 200, "headers": [*JSON, length]}
    )
    await send({"type": "http.response.body", "body": content})
