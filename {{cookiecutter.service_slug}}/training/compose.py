"""Stage 1: write the composed configuration, from which DVC detects changes.

DVC compares the values of this file. So it ignores configs that are not selected, and
sees every change of a selected group, experiment or value.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from training.files import write_text
from training.gate import check_gate
from training.schema import read_schema
from training.stage import PipelineError, command
from training.values import Config, dump_config

WRITTEN = ("config",)

HEADER = "# Composed from training/conf: change the values there. Their hash: "


def run(config: Config) -> None:
    """Write `paths.config`.

    Raises PipelineError if somebody edited that file: the edit would be lost; if no
    model can read the contract; or if the gate has metrics of another task.
    """
    check_gate(read_schema().task, config.gate)
    path, values = config.paths.config, dump_config(config)
    edits = find_edits(path, values)
    if edits:
        name, value = next(iter(edits.items()))
        raise PipelineError(
            f"{path} was edited ({', '.join(edits)}), but it is composed from "
            "training/conf, so the edit would be lost. Make it there, or run: dvc exp "
            f"run -S '{_find_file(name)}={value}'. To discard the edit, remove {path}."
        )
    content = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_text(path, f"{HEADER}{_hash(values)}\n{content}")


def find_edits(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return what differs from `values` in an edited file, by dotted name.

    A file is edited if its values are not those of the hash in its first line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    first, wanted = text.partition("\n")[0], _flatten(values)
    if not first.startswith(HEADER) or first == HEADER + _hash(found):
        return {}
    return {
        name: value
        for name, value in _flatten(found).items()
        if name not in wanted or value != wanted[name]
    }


def _find_file(name: str) -> str:
    """Return where a value is written, as `dvc exp run -S` takes it."""
    group, _, rest = name.partition(".")
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    if choices.get(group):
        return f"training/conf/{group}/{choices[group]}.yaml:{rest}"
    return f"training/conf/config.yaml:{name}"


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _hash(values: Any) -> str:
    content = json.dumps(values, sort_keys=True, default=str).encode("utf-8")
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    command(run, written=WRITTEN)()
