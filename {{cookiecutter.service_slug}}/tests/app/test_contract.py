"""What is stored beside the contract holds for it: the samples and the model."""

import json

import pytest

from app.contract import Instance
from app.examples import EXAMPLES
from serving.model import SIDECAR_FILE, Model
from serving.testing import ROOT


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_sample_is_an_instance(number: int) -> None:
    Instance.model_validate_json(json.dumps(EXAMPLES[number]))


def test_the_model_in_models_and_its_golden_instance_belong_to_this_contract() -> None:
    # There is none before the first `make train` or `make pull`.
    for sidecar in ROOT.glob(f"models/{SIDECAR_FILE}"):
        Model.load(sidecar.parent, Instance)
