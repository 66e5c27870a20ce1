"""Turn a stage's `run(config)` into a command that Hydra configures."""

import logging
import sys
from collections.abc import Callable, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from training.values import CONFIG_DIR, Config, ConfigError, read_config

CONFIG_NAME = "config"
HYDRA_VERSION = "1.3"

Run = Callable[[Config], float | None]


class PipelineError(Exception):
    """The pipeline stops. The message names the input, the reason and the fix."""


def in_sweep() -> bool:
    """Return whether the process runs the jobs of a sweep (`-m`)."""
    if not HydraConfig.initialized():
        return False
    return bool(HydraConfig.get().mode is RunMode.MULTIRUN)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the configuration with overrides, as the command line takes them.

    Raises ConfigError.
    """
    with hydra.initialize_config_dir(CONFIG_DIR, version_base=HYDRA_VERSION):
        return read_config(hydra.compose(CONFIG_NAME, list(overrides)))


def command(run: Run) -> Callable[[], None]:
    """Return the command of a stage. `run` may return a score, which sweeps compare.

    A PipelineError or ConfigError ends the process with its message and exit code 1.
    Any other exception is a defect and keeps its traceback.
    """

    def stage(composed: DictConfig) -> float | None:
        try:
            return run(read_config(composed))
        except (ConfigError, PipelineError) as error:
            logging.getLogger(run.__module__).error("%s", error)
            sys.exit(1)

    main: Callable[[], None] = hydra.main(
        version_base=HYDRA_VERSION, config_path=CONFIG_DIR, config_name=CONFIG_NAME
    )(stage)
    return main
