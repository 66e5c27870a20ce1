"""A client of the service that needs only Python's standard library.

It works with any contract: the sample instances come from /openapi.json.
"""

import json
import os
import sys
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

START_SECONDS = 30.0


class ServiceError(Exception):
    """The request failed. The message gives the reason and the fix."""


def service_url() -> str:
    """Return the address of the service: URL, else that of PORT on this machine."""
    return os.environ.get("URL") or f"http://127.0.0.1:{os.environ.get('PORT', 8000)}"


def get(url: str, body: Any = None) -> Any:
    """Send a GET, or a POST if there is a body, and return the JSON response.

    The request carries the key of the variable API_KEY. Raises ServiceError.
    """
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, content, headers), timeout=10) as response:
            return json.load(response)
    except HTTPError as error:
        raise ServiceError(explain(url, error)) from None
    except (ValueError, HTTPException):
        raise ServiceError(
            f"Another server answers at {url}: set PORT to the port of this service."
        ) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ServiceError(
            f"No service at {url} ({reason}). Start it: make run"
        ) from None


def get_page(url: str) -> str:
    """Return the text at an address, which needs no key. Raises ServiceError."""
    try:
        with urlopen(url, timeout=10) as response:
            text: str = response.read().decode()
    except (OSError, HTTPException, ValueError) as error:
        raise ServiceError(f"{url} does not answer: {error}") from None
    return text


def explain(url: str, error: HTTPError) -> str:
    """Return the text of an error response."""
    try:
        problem = json.load(error)
        lines = [f"{url} answers {error.code}: {problem['detail']}"]
        for mistake in problem.get("errors", []):
            lines.append(f"  {mistake['pointer']}: {mistake['detail']}")
    except (ValueError, KeyError, TypeError):
        return (
            f"{url} answers {error.code}, without a problem document of this service."
        )
    if error.code == 401:
        lines.append("Set the variable API_KEY to your key.")
    return "\n".join(lines)


def examples(url: str) -> list[dict[str, Any]]:
    """Return the sample instances of the OpenAPI document. Raises ServiceError."""
    try:
        schemas = get(f"{url}/openapi.json")["components"]["schemas"]
        found: list[dict[str, Any]] = schemas["Instance"]["examples"]
    except (KeyError, TypeError):
        raise ServiceError(f"{url}/openapi.json has no examples of Instance.") from None
    return found


def show_predictions(url: str, instances: list[dict[str, Any]]) -> int:
    """Print a line for each instance, and return the exit code."""
    try:
        answer = get(f"{url}/v1/predict", {"instances": instances})
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1

    print(f"Model {answer['model_version']} at {url}")
    for instance, prediction in zip(instances, answer["predictions"], strict=True):
        shown = ", ".join(map(str, instance.values()))
        print(f"  {describe(prediction)} {shown}")
    return 0


def describe(prediction: dict[str, Any]) -> str:
    """Return a prediction in columns: score and label, or a value."""
    if "value" in prediction:
        return f"{prediction['value']:>12.6g} "
    return f"{prediction['score']:6.1%}  {prediction.get('label', '(abstained)'):<26}"


def wait_until_ready(url: str) -> None:
    """Poll /readyz. Raises ServiceError, with the last error, after `START_SECONDS`."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            get(f"{url}/readyz")
            return
        except ServiceError as error:
            if time.monotonic() > deadline:
                raise ServiceError(f"{url} does not become ready: {error}") from None
        time.sleep(0.1)
