"""Turn a stage's `run(config)` into a command that Hydra configures."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from training.values import CONFIG_DIR, Config, ConfigError, read_config

CONFIG_NAME = "config"
HYDRA_VERSION = "1.3"

Run = Callable[[Config], float | None]
Record = Callable[[DictConfig, float, str], None]


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


def place_output(path: Path) -> Path:
    """Return the path. In a sweep, move it into the directory of the job."""
    if not in_sweep():
        return path
    return Path(HydraConfig.get().runtime.output_dir) / path.name


def command(run: Run, record: Record | None = None) -> Callable[[], None]:
    """Return the command of a stage. `record` is told how it ended.

    A PipelineError or ConfigError ends the process with its message and exit code 1.
    Any other exception is a defect and keeps its traceback. In a sweep, neither stops
    the other jobs.
    """

    def stage(composed: DictConfig) -> float | None:
        begin, reason, log = time.perf_counter(), "", logging.getLogger(run.__module__)
        try:
            return run(read_config(composed))
        except (ConfigError, PipelineError) as error:
            reason = str(error)
            log.error("%s", error)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if not in_sweep():
                raise
            log.exception("%s", reason)
        finally:
            if record:
                record(composed, time.perf_counter() - begin, reason)
        return None if in_sweep() else sys.exit(1)

    main: Callable[[], None] = hydra.main(
        version_base=HYDRA_VERSION, config_path=CONFIG_DIR, config_name=CONFIG_NAME
    )(stage)
    return main
