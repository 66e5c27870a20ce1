"""Ask the service at URL with tritonclient, and print as JSON what it said.

It runs in an environment of its own: tritonclient is no dependency of a service.
"""

import json
import os
import sys
from typing import Any
from urllib.request import urlopen

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

URL = os.environ["URL"]
MODEL = sys.argv[1]
TEXTS = json.loads(sys.argv[2])


def tensor(name: str, texts: list[str], binary: bool = False) -> triton.InferInput:
    """The input of some texts."""
    given = triton.InferInput(name, [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
    return given


def wanted(*names: str) -> list[triton.InferRequestedOutput]:
    """The outputs of some names, as JSON."""
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


def refusal(model: str, given: triton.InferInput, outputs: Any) -> list[str]:
    """The status and the message of a refused request."""
    try:
        client.infer(model, [given], outputs=outputs)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return ["200", ""]


client = triton.InferenceServerClient(URL.removeprefix("http://"))
metadata = client.get_model_metadata(MODEL)
(version,) = metadata["versions"]
said: dict[str, Any] = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "models": [client.is_model_ready(name) for name in (MODEL, "other")],
    "versions": [client.is_model_ready(MODEL, name) for name in (version, "other")],
    "server": client.get_server_metadata(),
    "model": metadata,
}
for name, of in (("answer", ""), ("of version", version)):
    result = client.infer(
        MODEL,
        [tensor("text", TEXTS)],
        outputs=wanted("score", "label", "probabilities"),
        request_id="42",
        model_version=of,
    )
    said[name] = result.get_response()
    said[name]["arrays"] = {
        output: result.as_numpy(output).tolist() for output in ("label", "score")
    }
said["refusals"] = {
    "model": refusal("other", tensor("text", TEXTS), wanted("label")),
    "input": refusal(MODEL, tensor("words", TEXTS), wanted("label")),
    "value": refusal(MODEL, tensor("text", ["a", ""]), wanted("label")),
    "output": refusal(MODEL, tensor("text", TEXTS), wanted("value")),
    "binary input": refusal(MODEL, tensor("text", TEXTS, True), wanted("label")),
    "binary outputs": refusal(MODEL, tensor("text", TEXTS), None),
}
for path in ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready"):
    said[path] = json.load(urlopen(URL + path))
print(json.dumps(said))
