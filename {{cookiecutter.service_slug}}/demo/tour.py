"""Serve, ask, show, stop: what the service does, in one command (`make demo`)."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from demo.ask import EXAMPLES, show

START_TIMEOUT = 30.0


@contextmanager
def serving() -> Iterator[str]:
    """Run the service on a free port; gives its URL and ends it afterwards.

    Raises RuntimeError, with the service's own words, if it does not become ready.
    """
    service = subprocess.Popen(
        [sys.executable, "-m", "app"],
        stderr=subprocess.PIPE,
        text=True,
        env={**environ, "HOST": "127.0.0.1", "PORT": "0", "LOG_LEVEL": "error"},
    )
    assert service.stderr is not None
    try:
        first = service.stderr.readline()
        match = re.search(r"Listening on (\S+)", first)
        if match is None:
            raise RuntimeError(first + service.stderr.read())
        url = match[1]
        wait_until_ready(url)
        yield url
    finally:
        service.terminate()
        service.communicate()


def wait_until_ready(url: str) -> None:
    """Poll /readyz. Raises RuntimeError with its last answer after `START_TIMEOUT`."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with urlopen(f"{url}/readyz", timeout=5):
                return
        except HTTPError as error:
            answer = error.read().decode()
        except URLError as error:
            answer = str(error.reason)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not become ready: {answer}")
        time.sleep(0.1)


def main() -> int:
    """Returns the exit code."""
    start = time.monotonic()
    try:
        with serving() as url:
            print(f"Ready after {time.monotonic() - start:.1f} s.")
            return show(url, list(EXAMPLES))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
