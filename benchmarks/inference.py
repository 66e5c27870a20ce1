"""What the Open Inference Protocol costs: its request rate to that of /v1/predict."""

import json

from benchmarks.generated import BODY, PREDICT, python, served, trained
from benchmarks.results import quartiles, versions
from benchmarks.wrk import load

INFER = "/v2/models/intent-service/infer"


def write_tensors(body: str) -> str:
    """Return the same question in the protocol, which asks for the same answer."""
    texts = [instance["text"] for instance in json.loads(body)["instances"]]
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    outputs = [{"name": "label"}, {"name": "score"}]
    return json.dumps({"inputs": [tensor], "outputs": outputs})


def measure(
    rounds: int = 15, seconds: float = 2, connections: int = 32
) -> dict[str, object]:
    """The ratio of the two request rates; the rounds alternate, as machines drift."""
    ratios = []
    bodies = {PREDICT: BODY, INFER: write_tensors(BODY)}
    with trained() as service, served(service) as server:

        def rate(path: str) -> float:
            return load(server.url + path, [bodies[path]], connections, seconds).rate

        for path in bodies:
            rate(path)
        for turn in range(rounds):
            order = (PREDICT, INFER) if turn % 2 else (INFER, PREDICT)
            rates = {path: rate(path) for path in order}
            ratios.append(rates[INFER] / rates[PREDICT])
            print(f"  round {turn + 1} of {rounds}: {ratios[-1]:.3f}", flush=True)
        found = versions(python(service), "fastapi", "pydantic", "uvicorn")

    return {
        "versions": found,
        "rounds": rounds,
        "connections": connections,
        **quartiles(ratios),
    }
