"""Makes a stage's `run(config)` a command: Hydra composes, errors are a message."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from training.values import mistakes

CONFIG_DIR = str(Path(__file__).parent / "conf")
CONFIG_NAME = "config"

Run = Callable[[DictConfig], float | None]


class PipelineError(Exception):
    """The pipeline stops; the message names what, why and what to do about it."""


def in_sweep() -> bool:
    """True if the process runs one of many jobs (`-m` on the command line)."""
    if not HydraConfig.initialized():
        return False
    return bool(HydraConfig.get().mode is RunMode.MULTIRUN)


def command(run: Run) -> Callable[[], None]:
    """The command line of a stage; `run` may return a score for sweeps to compare.

    The process ends with exit code 1 and the bare message on a PipelineError; any other
    exception is a defect and keeps its traceback.
    """

    def stage(config: DictConfig) -> float | None:
        try:
            if bad := mistakes(config):
                raise PipelineError("\n".join(["The configuration is wrong:", *bad]))
            return run(config)
        except PipelineError as error:
            logging.getLogger(run.__module__).error("%s", error)
            sys.exit(1)

    main: Callable[[], None] = hydra.main(
        version_base="1.3", config_path=CONFIG_DIR, config_name=CONFIG_NAME
    )(stage)
    return main
