"""`make promote` on real sentences: what users correct comes back, poison does not."""

import json

import pytest

from tests.conftest import Service, copy
from tests.test_service import edit

pytestmark = pytest.mark.slow(seconds=60)

ROOMS = ("kitchen", "bedroom", "attic", "cellar", "garage", "hall", "study", "shed")
# What the people of two tenants say, in words that the templates do not have.
SAID = {
    "gimme some glow in the {} {}": "HassTurnOn",
    "kill that glow in the {} {}": "HassTurnOff",
    "how toasty is our {} {}": "HassClimateGetTemperature",
}
WRONG = {"HassTurnOn": "HassTurnOff", "HassTurnOff": "HassTurnOn"}

WRITE = """
import json, pandas, sys
corrections, held_out, swapped = json.loads(sys.argv[1])
rows = pandas.read_parquet("data/raw.parquet")
new = pandas.DataFrame(corrections, columns=["text", "label", "tenant"])
if swapped:  # an attacker corrects what was right, in the words of others
    known = rows[rows["label"].isin(list(swapped))]
    twisted = known.assign(label=known["label"].map(swapped), group="")
    twisted["text"] = twisted["text"] + " now"
    rows = pandas.concat([rows, twisted.iloc[::2]])
rows = pandas.concat([rows, new.drop(columns="tenant").assign(group="")])
rows.to_csv("data/source/data.csv", index=False)
held = pandas.DataFrame(held_out, columns=["text", "label", "tenant"])
held.to_csv("outputs/held-out.csv", index=False)
"""


def correct(service: Service, swapped: dict[str, str] | None = None) -> None:
    """Join corrections to the data, and keep others of the same kind out."""
    said = [
        (text.format(room, word), label, tenant)
        for text, label in SAID.items()
        for room in ROOMS
        for word, tenant in (("please", "acme"), ("today", "acme"), ("now", "zeta"))
    ]
    if swapped:
        said = [(text, swapped.get(label, label), who) for text, label, who in said]
    parts = [said[::2], said[1::2], swapped or {}]
    (service.path / "outputs").mkdir(exist_ok=True)
    service.run("python", "-c", WRITE, json.dumps(parts))
    service.run("dvc", "repro", "prepare")


@pytest.fixture(scope="module")
def corrected(trained: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service that reads its rows from a file, which corrections are joined to."""
    service = copy(trained, tmp_path_factory.mktemp("promote"))
    edit(service, "training/conf/config.yaml", "- data: intents", "- data: csv")
    return service


def test_what_users_correct_makes_a_model_that_is_promoted(corrected: Service) -> None:
    correct(corrected)

    output = corrected.make("promote", "CORRECTIONS=outputs/held-out.csv").stdout

    print(output)
    decision = json.loads(corrected.read("reports/promotion.json"))
    assert decision["promoted"] and "The candidate is promoted." in output
    assert decision["scores"]["corrections_accuracy"] > 0.9
    assert "corrections of zeta" in output
    assert "promoted" in corrected.make("runs").stdout
    assert (corrected.path / "outputs" / "promotion.md").exists()


def test_poisoned_corrections_are_not_promoted(corrected: Service) -> None:
    correct(corrected, WRONG)

    done = corrected.make("promote", "CORRECTIONS=outputs/held-out.csv", check=False)

    print(done.stdout)
    decision = json.loads(corrected.read("reports/promotion.json"))
    assert done.returncode != 0 and not decision["promoted"]
    assert (
        "The model stays." in done.stdout and "No label may lose so much" in done.stdout
    )
    assert not (corrected.path / "outputs" / "promotion.md").exists()
