"""Ask the running service for predictions and show them: `make ask TEXT="…"`."""

import json
import os
import sys
from typing import Any

from demo.client import ServiceError, examples, get, service_url, show_predictions


def instances(url: str) -> list[dict[str, Any]]:
    """Return the instances to send, from INSTANCE (JSON), TEXT or the samples.

    Raises ServiceError if INSTANCE is not JSON.
    """
    # From the environment, where no shell interprets their values.
    text, instance = os.environ.get("TEXT"), os.environ.get("INSTANCE")
    if instance:
        try:
            return [json.loads(instance)]
        except ValueError as error:
            raise ServiceError(f"INSTANCE is not JSON: {error}.") from None
    if not text:
        return examples(url)
    return [{text_field(url): text}]


def text_field(url: str) -> str:
    """Return the single field of an instance. Raises ServiceError if there are more."""
    schemas = get(f"{url}/openapi.json")["components"]["schemas"]
    fields = list(schemas["Instance"]["properties"])
    if len(fields) > 1:
        raise ServiceError(
            f"An instance has the fields {', '.join(fields)}: send INSTANCE "
            "as JSON instead of TEXT."
        )
    return str(fields[0])


def main() -> int:
    """Print predictions and return the exit code."""
    url = service_url()
    try:
        return show_predictions(url, instances(url))
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
