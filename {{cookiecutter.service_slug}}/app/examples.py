"""The sample instances of the service.

The OpenAPI document shows them. `make ask`, `make smoke`, the demo, the benchmark and
the tests use them. Each must be a valid `Instance` of app/contract.py.
`python -m app.examples` prints the body of a request.
"""

import json

from pydantic.config import JsonDict

EXAMPLES: list[JsonDict] = [
    {"text": "turn on the lights in the kitchen"},
    {"text": "set a timer for 20 minutes"},
    {"text": "what is the weather like"},
    {"text": "set the temperature in the bedroom to 21 degrees"},
    {"text": "skip this song"},
]

if __name__ == "__main__":
    print(json.dumps({"instances": EXAMPLES[:1]}))
