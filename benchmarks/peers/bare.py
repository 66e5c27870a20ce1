"""The bare limit: an ASGI function and ONNX Runtime; nothing is checked or counted."""

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
(feed,) = session.get_inputs()
DTYPE = {"tensor(string)": np.object_}.get(feed.type, np.float32)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer POST with the probabilities, and everything else with success."""
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
        features = np.array([json.loads(body)[feed.name]], DTYPE).reshape(1, -1)
        (rows,) = session.run(["probabilities"], {feed.name: features})
        content = json.dumps({"probabilities": rows[0].tolist()}).encode()
    length = (b"content-length", str(len(content)).encode())
    await send(
        {"type": "http.response.start", "status": 200, "headers": [*JSON, length]}
    )
    await send({"type": "http.response.body", "body": content})
