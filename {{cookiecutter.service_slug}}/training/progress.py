"""Show what a long fit does, from what scikit-learn prints about it."""

import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from sklearn.pipeline import Pipeline

logger = logging.getLogger(__name__)

SECONDS = 10.0  # between two lines
# What begins a line about a boosting iteration, and about an epoch.
STEPS = ("[", "-- Epoch")


class Steps(io.TextIOBase):
    """Log one line in so many seconds of those that tell a step of a fit."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin = self._due = time.monotonic()
        self._due += seconds
        self._line = ""

    def write(self, text: str) -> int:
        """Take what is printed, in any pieces."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            now = time.monotonic()
            if now >= self._due and line.startswith(STEPS):
                self._due = now + self._seconds
                logger.info("Fitting for %.0f s: %s", now - self._begin, line)
        return len(text)


@contextmanager
def show_steps(pipeline: Pipeline, seconds: float = SECONDS) -> Iterator[None]:
    """Log the steps of a fit that takes longer than so many seconds.

    Those of boosting and of stochastic gradient descent: others print none.
    """
    estimator = pipeline.named_steps["estimator"]
    if "verbose" not in estimator.get_params():
        yield
        return
    estimator.set_params(verbose=2)
    try:
        with redirect_stdout(Steps(seconds)):
            yield
    finally:
        # The bytes of the fitted pipeline are those without.
        estimator.set_params(verbose=0)
