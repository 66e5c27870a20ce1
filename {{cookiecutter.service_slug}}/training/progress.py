"""Show how long a fit has taken, and its last step if scikit-learn prints steps."""

import io
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from sklearn.pipeline import Pipeline

logger = logging.getLogger(__name__)

SECONDS = 10.0  # between two lines
# What begins a printed line about a boosting iteration, and about an epoch.
STEPS = ("[", "-- Epoch")


class Steps(io.TextIOBase):
    """Keep the last printed line about a step of a fit."""

    def __init__(self) -> None:
        self.last = ""
        self._line = ""

    def write(self, text: str) -> int:
        """Take what is printed, in any pieces."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.startswith(STEPS):
                self.last = line
        return len(text)


@contextmanager
def show_progress(pipeline: Pipeline, seconds: float = SECONDS) -> Iterator[Steps]:
    """Log a line every so many seconds: how long the fit has taken, and its last step.

    Boosting and stochastic gradient descent print their steps. The other estimators
    print none, and the line says so.
    """
    estimator = pipeline.named_steps["estimator"]
    is_verbose = "verbose" in estimator.get_params()
    steps, ended, begin = Steps(), threading.Event(), time.monotonic()
    unknown = f"{type(estimator).__name__} does not tell its steps"

    def report() -> None:
        while not ended.wait(seconds):
            passed = time.monotonic() - begin
            logger.info("Fitting for %.0f s: %s", passed, steps.last or unknown)

    reporter = threading.Thread(target=report, name="progress", daemon=True)
    reporter.start()
    try:
        if is_verbose:
            estimator.set_params(verbose=2)
        with redirect_stdout(steps):
            yield steps
    finally:
        ended.set()
        reporter.join()
        if is_verbose:  # the bytes of the fitted pipeline must not change
            estimator.set_params(verbose=0)
