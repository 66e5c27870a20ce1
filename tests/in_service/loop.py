"""From corrections over HTTP to a model that is better: all that a team does, once.

It takes the place of tests/feedback/test_loop.py in a trained service: it trains the
service itself.
"""

import csv
import re
import subprocess
import threading
from pathlib import Path

import httpx2
import pytest
from feedback.database import migrate

from serving.testing import ROOT, started
from tests.feedback.conftest import PostgreSQL, open_engine
from tests.feedback.test_feedback import KEYS, TENANTS, bearer, send

ROOMS = ("kitchen", "bedroom", "attic", "cellar", "garage", "hall", "study", "shed")
WORDS = ("please", "today", "now", "again", "at once")
# What people say, in words that the sentences of the training data do not have.
SAID = {
    "gimme some glow in the {} {}": "HassTurnOn",
    "let the {} shine {}": "HassTurnOn",
    "kill that glow in the {} {}": "HassTurnOff",
    "no more glow in the {} {}": "HassTurnOff",
    "how toasty is our {} {}": "HassClimateGetTemperature",
}
MOST_MEMORY = 150e6  # bytes
SENTENCES = [
    (text.format(room, word), label)
    for text, label in SAID.items()
    for room in ROOMS
    for word in WORDS
]


def correct(url: str, tenant: str, sentences: list[tuple[str, str]]) -> None:
    """Ask for a prediction of each sentence, and send what is true."""
    with httpx2.Client(base_url=url, headers=bearer(tenant), timeout=20) as client:
        for number, (text, label) in enumerate(sentences):
            instance = {"text": text}
            answer = client.post("/v1/predict", json={"instances": [instance]}).json()
            (found,) = answer["predictions"]
            item = {  # the same ids as the other tenant has
                "id": f"00000000-0000-4000-8000-{number:012}",
                "prediction_id": found["id"],
                "instance": instance,
                "prediction": {
                    "label": found["label"],
                    "score": found["score"],
                    "model_version": answer["model_version"],
                },
                "label": label,
            }
            assert send(client, item).status_code == 201


def resident_memory(url: str) -> float:
    """Return the bytes of resident memory of a service, and print them."""
    metrics = httpx2.get(f"{url}/metrics", timeout=20).text
    (found,) = re.findall(r"^process_resident_memory_bytes (\S+)$", metrics, re.M)
    print(f"memory with feedback: {float(found) / 1e6:.0f} MB")
    return float(found)


def make(*words: str) -> str:
    """Call a verb of the Makefile, and return what it prints."""
    done = subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_users_correct_comes_back(
    server: PostgreSQL,
    postgresql: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = open_engine(postgresql)
    migrate(engine)
    engine.dispose()
    monkeypatch.setenv("DATABASE_URL", postgresql)
    with started(API_KEYS=KEYS, FEEDBACK_SECONDS="10") as service:
        parts = (SENTENCES[::2], SENTENCES[1::2])
        threads = [
            threading.Thread(target=correct, args=(service.url, tenant, part))
            for tenant, part in zip(TENANTS, parts, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert resident_memory(service.url) < MOST_MEMORY
    name = postgresql.rpartition("/")[2]
    assert server.run_sql("SELECT count(*) FROM feedback", name) == "200"

    accept(tmp_path / "review.csv")
    assert "200 rows; 0 repeated" in make("feedback")
    make("train")
    print(make("promote"))


def accept(file: Path) -> None:
    """Accept all that waits, by file."""
    assert "200 rows wait" in make("review", f"OUT={file}")
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"decision": "accepted"} for row in rows)
    assert "200 decisions" in make("review", f"IN={file}")
