"""The configuration: validated once, as a typed object, and nothing else is used."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field, ValidationError

from serving.testing import ROOT
from tests.training.conftest import CHOICES, Compose
from training import compose
from training.stage import PipelineError
from training.stage import compose as read
from training.values import TARGET, Component, ConfigError


@pytest.mark.parametrize("choice", CHOICES)
def test_every_config_file_changes_the_configuration(
    configure: Compose, choice: str
) -> None:
    group = choice.partition("=")[0]
    others = {other for other in CHOICES if other.startswith(f"{group}=")} - {choice}

    assert all(configure(choice) != configure(other) for other in others)
    assert group != "experiment" or configure(choice) != configure()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed=1e3", "seed=1000.0: .*valid integer. Write 1000."),
        ("seed=true", "seed=True: .* true and false are no numbers."),
        ("seed=-1", "seed=-1: Input should be greater than or equal to 0."),
        ("seed=null", "seed=null: "),
        ("~seed", "seed: it is missing. Give it a value in training/conf."),
        ("split.test_share='0.3'", "share=0.3: .* Write 0.3, without quotes."),
        ("++gate.macro_f1='0.5'", "macro_f1=0.5: .* Write 0.5, without quotes."),
        ("++gate.macro_f1=nan", "gate.macro_f1=nan: Input should be a finite number."),
        ("validation.folds=3.0", "folds=3.0: .*integer. Write 3."),
        ("rows_per_label=1.5", "rows_per_label=1.5: "),
        ("~model", "model: none is chosen. Choose model=.* or "),
        ("~data", "data: none is chosen. Choose data=.*csv"),
        ("+model.x=1", "model.x=1: there is no such value. Remove it."),
        ("+foo=1", "foo=1: there is no such value. Remove it."),
        ("~paths.raw", "paths.raw: it is missing."),
        ("model._target_=training.models.nope", "training.models.nope is not a funct"),
        ("model._target_=training.models.LETTER", "it is of type str"),
    ],
)
def test_an_unusable_value_is_named_with_the_remedy(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read([override])


def test_all_unusable_values_are_named_at_once_and_without_a_traceback() -> None:
    bad = ("seed=x", "parity.tolerance=abc", "split.test_share=5")
    done = subprocess.run(
        [sys.executable, "-m", "training.prepare", *bad],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    for mistake in bad:
        assert f"{mistake}: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def scale(factor: Annotated[float, Field(gt=0)], name: str = "x") -> tuple[float, str]:
    """A function that a config may name."""
    return factor, name


def test_the_arguments_of_a_config_are_those_of_its_function() -> None:
    target = f"{__name__}.scale"

    made = Component.model_validate({TARGET: target, "factor": 2})

    assert (made.factor, made.name) == (2, "x")
    assert made.create() == (2, "x")
    assert made.create(name="y") == (2, "y")
    for wrong in ({"factor": 0}, {"factor": "2"}, {}, {"factor": 1, "more": 2}):
        with pytest.raises(ValidationError):
            Component.model_validate({TARGET: target, **wrong})


def test_what_is_composed_is_what_was_accepted(configure: Compose) -> None:
    config = configure("validation.folds=4")
    compose.run(config)

    content: dict[str, Any] = yaml.safe_load(config.paths.config.read_text("utf-8"))

    assert content["validation"] == {"folds": 4}
    assert content["gate"] == config.gate.model_dump()
    assert content["model"][TARGET] == config.model.target


def test_an_edit_of_what_is_composed_is_refused_with_the_place_for_it(
    configure: Compose,
) -> None:
    config = configure("validation.folds=3")
    path = config.paths.config
    compose.run(config)
    text = path.read_text(encoding="utf-8")
    assert "folds: 3" in text

    path.write_text(text.replace("folds: 3", "folds: 7"), encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        compose.run(config)

    assert "-S 'training/conf/config.yaml:validation.folds=7'" in str(caught.value)
    assert "folds: 7" in path.read_text(encoding="utf-8")


def test_what_was_composed_before_is_replaced(configure: Compose) -> None:
    compose.run(configure("validation.folds=2"))
    compose.run(configure("validation.folds=4"))

    assert "folds: 4" in configure().paths.config.read_text(encoding="utf-8")


def test_a_composed_file_without_a_hash_is_replaced(configure: Compose) -> None:
    config = configure("seed=5")
    path: Path = config.paths.config
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"seed": 3}), encoding="utf-8")

    compose.run(config)

    assert "seed: 5" in path.read_text(encoding="utf-8")
