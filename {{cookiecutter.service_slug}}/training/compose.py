"""Stage 1: write the composed configuration, from which DVC detects changes.

DVC compares the values of this file. So it ignores configs that are not selected, and
sees every change of a selected group, experiment or value.
"""

import yaml

from training.files import write_text
from training.stage import command
from training.values import Config, dump_config


def run(config: Config) -> None:
    """Write `paths.config`."""
    content = yaml.safe_dump(dump_config(config), sort_keys=False, allow_unicode=True)
    write_text(config.paths.config, content)


if __name__ == "__main__":
    command(run)()
