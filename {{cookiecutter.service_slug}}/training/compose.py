"""Stage 1: write the composed configuration down, for DVC to see what changed.

DVC compares values and not files: a config that is not chosen changes nothing, and a
choice, an experiment or a value written into conf/config.yaml is never missed.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from training.files import write_text
from training.stage import command


def run(config: DictConfig) -> None:
    """Write `paths.config`."""
    write_text(Path(config.paths.config), OmegaConf.to_yaml(config, resolve=True))


if __name__ == "__main__":
    command(run)()
