"""Stage 1: write the composed configuration, from which DVC detects changes.

DVC compares the values of this file. So it ignores configs that are not selected, and
sees every change of a selected group, experiment or value.
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
