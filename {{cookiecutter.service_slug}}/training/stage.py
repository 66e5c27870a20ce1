"""Turn a stage's `run(config)` into a command that Hydra configures."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from training.values import find_mistakes

CONFIG_DIR = str(Path(__file__).parent / "conf")
CONFIG_NAME = "config"

Run = Callable[[DictConfig], float | None]


class PipelineError(Exception):
    """The pipeline stops. The message names the input, the reason and the fix."""


def in_sweep() -> bool:
    """Return whether the process runs the jobs of a sweep (`-m`)."""
    if not HydraConfig.initialized():
        return False
    return bool(HydraConfig.get().mode is RunMode.MULTIRUN)


def command(run: Run) -> Callable[[], None]:
    """Return the command of a stage. `run` may return a score, which sweeps compare.

    A PipelineError ends the process with its message and exit code 1. Any other
    exception is a defect and keeps its traceback.
    """

    def stage(config: DictConfig) -> float | None:
        try:
            if bad := find_mistakes(config):
                raise PipelineError("\n".join(["The configuration is wrong:", *bad]))
            return run(config)
        except PipelineError as error:
            logging.getLogger(run.__module__).error("%s", error)
            sys.exit(1)

    main: Callable[[], None] = hydra.main(
        version_base="1.3", config_path=CONFIG_DIR, config_name=CONFIG_NAME
    )(stage)
    return main
