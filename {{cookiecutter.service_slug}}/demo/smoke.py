"""Check that the deployed service is ready and predicts: `make smoke ENV=dev`.

It needs only Python, so a deployment job starts without an installation.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from demo.client import (
    ServiceError,
    examples,
    get_page,
    show_predictions,
    wait_until_ready,
)

HEALTH = "/_stcore/health"  # of Streamlit


@contextmanager
def tunnel(command: list[str]) -> Iterator[str]:
    """Run `kubectl port-forward …` and yield the local URL.

    Raises RuntimeError, with kubectl's output, if the connection fails.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        match = re.match(r"Forwarding from (127\.0\.0\.1:\d+) ", first)
        if not match:
            raise RuntimeError(
                f"Cannot reach the service: {first}{process.stdout.read()}"
            )
        yield f"http://{match[1]}"
    finally:
        process.terminate()
        process.wait()


def main(arguments: list[str]) -> int:
    """Print predictions of the deployed service and return the exit code.

    With `--page`, look at the page of the demo instead.
    """
    is_page = arguments[:1] == ["--page"]
    try:
        with tunnel(arguments[is_page:]) as url:
            if is_page:
                print(f"The page of the demo: {get_page(f'{url}{HEALTH}')}")
                return 0
            wait_until_ready(url)
            return show_predictions(url, examples(url))
    except (OSError, RuntimeError, ServiceError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
