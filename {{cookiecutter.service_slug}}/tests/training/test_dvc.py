"""What DVC knows of the pipeline: what each stage reads, and what it makes."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.testing import ROOT
from tests.training.conftest import CONF, reached
from training.stage import compose
from training.values import TARGET, Component, Config

# What a stage makes for people, and nothing reads.
BESIDE_DVC = {"bad_rows", "report", "runs"}
# A directory whose files are outputs of their own.
MODEL = ["models/model.json", "models/model.onnx"]


def stages() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages: dict[str, Any] = document["stages"]
    return stages


if "adopt" in stages():
    pytest.skip(
        "dvc.yaml has no pipeline: the model was adopted", allow_module_level=True
    )


def outputs(stage: dict[str, Any]) -> set[str]:
    """The files that a stage makes."""
    entries = stage.get("outs", []) + stage.get("metrics", [])
    return {path for entry in entries for path in entry}


def params(stage: dict[str, Any]) -> set[str]:
    """The values of the configuration that a stage reads."""
    return {
        name
        for entry in stage.get("params", [])
        for names in entry.values()
        for name in names
    }


def targets(group: str) -> set[Path]:
    """The files of the functions that the configs of a group name."""
    names = {
        yaml.safe_load(file.read_text(encoding="utf-8"))[TARGET]
        for file in (CONF / group).glob("*.yaml")
    }
    modules = [name.rpartition(".")[0].replace(".", "/") for name in names]
    return {ROOT / f"{module}.py" for module in modules}


def mentioned(name: str, *files: Path) -> set[str]:
    """The values of the configuration that files mention.

    Another stage whose functions this one uses reads its own part of it.
    """
    others = {ROOT / "training" / f"{stage}.py" for stage in stages() if stage != name}
    texts = [file.read_text(encoding="utf-8") for file in files if file not in others]
    return {value for text in texts for value in re.findall(r"config\.([\w.]+)", text)}


def groups() -> set[str]:
    """The values that name a function, such as a source or a model."""
    fields = Config.model_fields.items()
    return {name for name, field in fields if field.annotation is Component}


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_the_files_that_it_imports_and_on_no_others(
    name: str,
) -> None:
    module = ROOT / "training" / f"{name}.py"
    files = reached(module, ROOT / "training" / "__init__.py")
    named = {value.partition(".")[0] for value in mentioned(name, module)}
    for group in groups() & named:
        files |= reached(*targets(group))

    wanted = {file.relative_to(ROOT).as_posix() for file in files}

    listed = {path for path in stages()[name]["deps"] if path.endswith(".py")}
    assert wanted <= listed
    # A contract without a text does not import it.
    assert listed - wanted <= {"serving/text.py"}


# The first stage runs again for every change of training/conf.
@pytest.mark.parametrize("name", [name for name in stages() if name != "compose"])
def test_a_stage_runs_again_for_the_values_that_it_reads_and_for_no_others(
    name: str,
) -> None:
    module, known = ROOT / "training" / f"{name}.py", set(Config.model_fields)
    read = {value.partition(".")[0] for value in mentioned(name, module)}
    may_read = {value.partition(".")[0] for value in mentioned(name, *reached(module))}

    assert read & known - {"paths"} <= params(stages()[name]) <= may_read & known


@pytest.mark.parametrize("name", stages())
def test_dvc_knows_each_file_that_a_stage_reads_or_writes(name: str) -> None:
    stage, paths = stages()[name], compose().paths
    module = ROOT / "training" / f"{name}.py"
    named = {
        value.split(".")[1]
        for value in mentioned(name, module)
        if value.startswith("paths.")
    }
    wanted = {getattr(paths, path).as_posix() for path in named - BESIDE_DVC}
    if "models" in wanted:
        wanted = wanted - {"models"} | set(MODEL)
    sources = {"training/conf"} if name == "compose" else set()
    sources |= {"data/source"} if name in ("ingest", "evaluate") else set()

    files = {path for path in stage["deps"] if not path.endswith(".py")}

    assert files | outputs(stage) == wanted | sources


@pytest.mark.parametrize("name", stages())
def test_a_stage_writes_what_dvc_knows_as_its_outputs(name: str) -> None:
    paths, module = compose().paths, importlib.import_module(f"training.{name}")

    written = {getattr(paths, path) for path in set(module.WRITTEN) - BESIDE_DVC}

    made = {Path(path) for path in outputs(stages()[name])}
    assert {Path("models") if str(path) in MODEL else path for path in made} == written


def test_dvc_runs_the_stages_that_the_package_runs() -> None:
    assert [stage["cmd"] for stage in stages().values()] == [
        f"python -m training.{name}"
        for name in ("compose", "ingest", "prepare", "train", "evaluate", "export")
    ]


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=str)
def test_dvc_can_change_a_value_of_a_config(file: Path) -> None:
    # `dvc exp run -S` resolves a file by itself; it knows no resolvers of Hydra.
    if file.name != "outputs.yaml":
        assert "${" not in file.read_text(encoding="utf-8")
