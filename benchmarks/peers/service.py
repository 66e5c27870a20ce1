"""The default service, given the contract of the model that all serve."""

import re
import sys
from pathlib import Path

from benchmarks.peers.environments import run

ROOT = Path(__file__).parent.parent.parent

INSTANCE = '''class Instance(Contract):
    """One tumour: its 30 measurements."""

    features: Annotated[list[float], Field(min_length=30, max_length=30)]


class LabelledInstance(Instance):
    """A tumour and whether it is benign."""

    label: str


'''
# From the instance up to the request: what a row of training data is goes with it.
_INSTANCES = re.compile(r"class Instance\(.*?(?=class PredictRequest\()", re.DOTALL)


def generate(directory: Path) -> Path:
    """Generate the default service in a directory, without its data; gives its path.

    All but the contract stays as generated: validation, limits, metrics, ids, logs.
    """
    run(
        *(sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input"),
        *("--output-dir", str(directory)),
        cwd=directory,
    )
    (service,) = (path.parent for path in directory.glob("*/pyproject.toml"))
    contract = service / "app" / "contract.py"
    text, found = _INSTANCES.subn(INSTANCE, contract.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(
            "app/contract.py has no Instance followed by PredictRequest: "
            "bring benchmarks/peers/service.py up to date."
        )
    contract.write_text(text, encoding="utf-8")
    return service
