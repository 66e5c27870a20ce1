"""POST /v1/predict: what goes in and what comes out."""

import pytest
from fastapi.testclient import TestClient

from app.contract import MAX_INSTANCES


def ask(client: TestClient, *texts: str, **options: object) -> list[dict[str, object]]:
    """The predictions for some texts."""
    body = {"instances": [{"text": text} for text in texts], **options}
    response = client.post("/v1/predict", json=body)
    assert response.status_code == 200, response.text
    predictions: list[dict[str, object]] = response.json()["predictions"]
    return predictions


def test_one_instance_gets_a_label_and_a_score(client: TestClient) -> None:
    (prediction,) = ask(client, "set a timer for 20 minutes")

    assert prediction["label"] == "HassStartTimer"
    assert isinstance(prediction["score"], float) and 0.2 < prediction["score"] <= 1


def test_many_instances_are_answered_in_their_order(client: TestClient) -> None:
    texts = ["set a timer for 20 minutes", "mute the tv", "skip this song"] * 20

    labels = [prediction["label"] for prediction in ask(client, *texts)]

    assert labels == ["HassStartTimer", "HassMediaPlayerMute", "HassMediaNext"] * 20


def test_the_largest_request_is_answered(client: TestClient) -> None:
    assert len(ask(client, *["mute"] * MAX_INSTANCES)) == MAX_INSTANCES


def test_every_prediction_has_an_id_of_its_own(client: TestClient) -> None:
    predictions = ask(client, "mute", "mute", "mute")

    assert len({prediction["id"] for prediction in predictions}) == 3


def test_all_probabilities_come_on_request(client: TestClient) -> None:
    (prediction,) = ask(client, "mute the tv", probabilities=True)
    probabilities = prediction["probabilities"]

    assert isinstance(probabilities, dict)
    assert set(probabilities) == set(client.get("/v1/model").json()["labels"])
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert max(probabilities, key=probabilities.__getitem__) == prediction["label"]
    assert probabilities[str(prediction["label"])] == prediction["score"]


def test_probabilities_are_left_out_otherwise(client: TestClient) -> None:
    (prediction,) = ask(client, "mute the tv")

    assert set(prediction) == {"id", "label", "score"}


def test_the_answer_names_the_model(client: TestClient) -> None:
    body = {"instances": [{"text": "mute"}]}
    answer = client.post("/v1/predict", json=body).json()

    assert answer["model_version"] == client.get("/v1/model").json()["version"]


def test_case_width_and_space_do_not_matter(client: TestClient) -> None:
    plain, shouted = ask(client, "mute the tv", "  ＭＵＴＥ \n THE\u00a0TV ")

    assert plain["label"] == shouted["label"]
    assert plain["score"] == shouted["score"]


@pytest.mark.parametrize("text", [" ", "🎉", "打开厨房的灯", "\x00", "x" * 10_000])
def test_unusual_texts_are_answered(client: TestClient, text: str) -> None:
    assert ask(client, text)


def test_the_model_tells_where_it_comes_from(client: TestClient) -> None:
    model = client.get("/v1/model").json()

    assert set(model) == {
        "version",
        "labels",
        "metrics",
        "data_hash",
        "git_revision",
        "trained_at",
    }
    assert model["labels"] == sorted(model["labels"])
    assert (
        0.5 < model["metrics"]["macro_f1"] < model["metrics"]["macro_f1_random_split"]
    )
    assert model["data_hash"].startswith("md5:")
