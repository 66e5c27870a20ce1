"""Rank the jobs of a sweep when it ends. conf/config.yaml registers the callback."""

import logging
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

logger = logging.getLogger(__name__)


class Leaderboard(Callback):
    """Collect the scores that the jobs return."""

    def __init__(self) -> None:
        self.scores: list[tuple[float, str]] = []

    def on_job_end(
        self, config: DictConfig, job_return: JobReturn, **kwargs: Any
    ) -> None:
        """Record the score and the overrides of a job."""
        if job_return.status is not JobStatus.COMPLETED:
            return
        if job_return.return_value is not None:
            overrides = " ".join(job_return.overrides or ["(defaults)"])
            self.scores.append((float(job_return.return_value), overrides))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the ranking, best first."""
        for score, overrides in sorted(self.scores, reverse=True):
            print(f"{score:.4f}  {overrides}")
