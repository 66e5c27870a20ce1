"""Ask the running service for predictions and show them: `make ask TEXT="…"`."""

import json
import os
import sys
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

EXAMPLES = (
    "turn on the lights in the kitchen",
    "set a timer for 20 minutes",
    "what is the weather like",
    "set the temperature in the bedroom to 21 degrees",
    "skip this song",
)


def predict(url: str, texts: list[str]) -> dict[str, Any]:
    """The service's answer. Raises HTTPError or URLError."""
    body = json.dumps({"instances": [{"text": text} for text in texts]}).encode()
    request = Request(f"{url}/v1/predict", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def show(url: str, texts: list[str]) -> int:
    """Print a line for each text; returns the exit code."""
    try:
        answer = predict(url, texts)
    except HTTPError as error:
        problem = json.load(error)
        print(f"{url} answers {error.code}: {problem['detail']}", file=sys.stderr)
        for mistake in problem.get("errors", []):
            print(f"  {mistake['pointer']}: {mistake['detail']}", file=sys.stderr)
        return 1
    except ValueError:
        print(f"{url} is another server: choose the PORT.", file=sys.stderr)
        return 1
    except URLError as error:
        print(
            f"No service at {url} ({error.reason}). Start it: make run", file=sys.stderr
        )
        return 1

    print(f"Model {answer['model_version']} at {url}")
    for text, prediction in zip(texts, answer["predictions"], strict=True):
        print(f"  {prediction['score']:6.1%}  {prediction['label']:<26} {text}")
    return 0


if __name__ == "__main__":
    port = os.environ.get("PORT", "8000")
    # make hands TEXT on in the environment, where no shell acts on what it holds.
    text = os.environ.get("TEXT")
    texts = sys.argv[1:] or ([text] if text else list(EXAMPLES))
    sys.exit(show(f"http://127.0.0.1:{port}", texts))
