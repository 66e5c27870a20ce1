"""Show the jobs of a sweep when it ends. conf/outputs.yaml registers the callback."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from training.runs import format_runs, read_runs


class Leaderboard(Callback):
    """Print the rows of a sweep, best first, and what failed last."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with code 1 if no job has a score."""
        sweep = config.hydra.sweep.dir
        root, runs = (OmegaConf.select(config, name) for name in ("root", "paths.runs"))
        file = Path(root or "", runs)
        rows = [row for row in read_runs(file) if row["sweep"] == sweep]
        print("\n".join(format_runs(rows)))
        if not any(row["scores"] for row in rows):
            sys.exit(1)
