"""What the Open Inference Protocol costs: its request rate to that of /v1/predict."""

import json

from benchmarks.generated import BODY, PREDICT, python, served, trained
from benchmarks.results import Ratio, quartiles, versions
from benchmarks.serving import Server
from benchmarks.wrk import load

INFER = "/v2/models/intent-service/infer"
CONNECTIONS = 32
ROWS = (1, 16)  # of a request


def write_bodies(rows: int) -> dict[str, str]:
    """Return the same question for each endpoint; the answers say the same."""
    instances = json.loads(BODY)["instances"] * rows
    texts = [instance["text"] for instance in instances]
    tensor = {"name": "text", "shape": [rows], "datatype": "BYTES", "data": texts}
    outputs = [{"name": "label"}, {"name": "score"}]
    return {
        PREDICT: json.dumps({"instances": instances}),
        INFER: json.dumps({"inputs": [tensor], "outputs": outputs}),
    }


def compare(server: Server, rows: int, rounds: int) -> Ratio:
    """Return the ratio of the request rates; rounds alternate, as machines drift."""
    bodies = write_bodies(rows)

    def rate(path: str) -> float:
        return load(server.url + path, [bodies[path]], CONNECTIONS, seconds=1).rate

    ratios = []
    for turn in range(rounds):
        order = (PREDICT, INFER) if turn % 2 else (INFER, PREDICT)
        rates = {path: rate(path) for path in order}
        ratios.append(rates[INFER] / rates[PREDICT])
        print(f"  {rows} rows, {turn + 1} of {rounds}: {ratios[-1]:.3f}", flush=True)
    return quartiles(ratios)


def measure(rounds: int = 30) -> dict[str, object]:
    """Compare the two endpoints with few rows in a request and with some."""
    with trained() as service, served(service) as server:
        compare(server, 1, 1)  # both are warm
        ratios = {str(rows): compare(server, rows, rounds) for rows in ROWS}
        found = versions(python(service), "fastapi", "pydantic", "uvicorn")
    return {
        "versions": found,
        "rounds": rounds,
        "connections": CONNECTIONS,
        "ratios": ratios,
    }
