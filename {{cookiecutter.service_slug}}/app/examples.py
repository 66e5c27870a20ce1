"""Sample instances, the one place for them.

The OpenAPI document shows them; `make ask`, `make smoke`, the demo, the bench and the
tests read them from there. Each must fit `Instance` in app/contract.py.
"""

from pydantic.config import JsonDict

EXAMPLES: list[JsonDict] = [
    {"text": "turn on the lights in the kitchen"},
    {"text": "set a timer for 20 minutes"},
    {"text": "what is the weather like"},
    {"text": "set the temperature in the bedroom to 21 degrees"},
    {"text": "skip this song"},
]
