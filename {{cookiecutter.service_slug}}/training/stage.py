"""Turn a stage's `run(config)` into a command that Hydra configures."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from training.values import CONFIG_DIR, Config, ConfigError, Paths, read_config

CONFIG_NAME = "config"
HYDRA_VERSION = "1.3"

# Where a run that DVC has not started leaves its files.
TRIAL = Path("outputs/trial")

Run = Callable[[Config], float | None]
# It gets what Hydra composed, the configuration (None if it is wrong), the duration in
# seconds, and why the run failed ("" if it did not).
Record = Callable[[DictConfig, Config | None, float, str], None]


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


def job_directory() -> Path:
    """Return the directory of a job of a sweep."""
    return Path(HydraConfig.get().runtime.output_dir)


def place(config: Config, written: Sequence[str]) -> Config:
    """Return the configuration with the paths that a command writes to.

    A job of a sweep writes into its directory, a run with a `root` of its own there,
    and any other into TRIAL. The files of the pipeline are DVC's: it runs a stage again
    if they are not as it left them.
    """
    # https://doc.dvc.org/command-reference/repro: DVC sets it for each stage.
    if not in_sweep() and ("DVC_STAGE" in os.environ or config.root != Path()):
        return config
    moved = dict(config.paths)
    for name in written:
        path = moved[name]
        moved[name] = job_directory() / path.name if in_sweep() else TRIAL / path
    return config.model_copy(update={"paths": Paths(**moved)})


def command(
    run: Run, record: Record | None = None, written: Sequence[str] = ()
) -> Callable[[], None]:
    """Return the command of a stage. `record` is told how it ended.

    `written` names the paths that it writes to: see `place`. A PipelineError or
    ConfigError ends the process with its message and exit code 1.
    Any other exception is a defect and keeps its traceback. In a sweep, neither stops
    the other jobs.
    """

    def stage(composed: DictConfig) -> float | None:
        begin, log = time.perf_counter(), logging.getLogger(run.__module__)
        config: Config | None = None
        reason = "interrupted"
        try:
            given = read_config(composed)
            config = place(given, written)
            result = run(config)
            reason = ""
            if config != given and not in_sweep():
                log.info("Written to %s; the pipeline is as it was: make train", TRIAL)
            return result
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
                record(composed, config, time.perf_counter() - begin, reason)
        if not in_sweep():
            sys.exit(1)
        return None

    main: Callable[[], None] = hydra.main(
        version_base=HYDRA_VERSION, config_path=CONFIG_DIR, config_name=CONFIG_NAME
    )(stage)
    return main
