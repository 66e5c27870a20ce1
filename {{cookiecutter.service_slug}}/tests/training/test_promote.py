"""Promotion: when a candidate takes the place of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest
from pydantic import Field

from serving.contract import Contract
from training import promote
from training.compare import fit_recipe
from training.files import hash_content, read_json
from training.rows import write_rows
from training.runs import format_runs, read_runs
from training.schema import make_schema
from training.stage import PipelineError
from training.values import Config


class Ticket(Contract):
    """An instance."""

    text: str


class LabelledTicket(Ticket):
    """A row of a classification."""

    label: Annotated[str, Field(min_length=1)]
    group: str = ""


class MeasuredTicket(Ticket):
    """A row of a regression."""

    label: float
    group: str = ""


JUDGED = make_schema(Ticket, LabelledTicket)
MEASURED = make_schema(Ticket, MeasuredTicket)
OLD = {"bill": "pay", "cash": "pay", "lamp": "light", "bulb": "light"}

Decide = Callable[..., promote.Decision]


def tickets(words: dict[str, Any], count: int, first: int = 0) -> pd.DataFrame:
    """Return `count` texts with each of the words, and its label."""
    rows = [
        (f"{word} please {word} n{number}", label, "")
        for word, label in words.items()
        for number in range(first, first + count)
    ]
    return pd.DataFrame(rows, columns=["text", "label", "group"])


@pytest.fixture
def config(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """A configuration of tickets, with what a commit had in the cache of DVC."""
    place = f"corrections={tmp_path / 'feedback.csv'}"
    found = configure("data=csv", "model=linear", place)
    hashes = {}
    for name, rows in (
        (found.paths.train, tickets(OLD, 30)),
        (found.paths.test, tickets(OLD, 10, first=30)),
    ):
        write_rows(name, rows)
        content = name.read_bytes()
        hashes[name] = hash_content(content)
        kept = tmp_path / "cache" / hashes[name][:2] / hashes[name][2:]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    monkeypatch.setattr(promote, "read_schema", lambda: JUDGED)
    monkeypatch.setattr(promote, "read_recipe", lambda commit: found.model)
    monkeypatch.setattr(promote, "read_hashes", lambda commit, names: hashes)
    monkeypatch.setattr(promote, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(promote, "PROPOSAL", tmp_path / "promotion.md")
    monkeypatch.setattr(promote, "commit_hash", lambda commit: "0" * 40)
    return found


@pytest.fixture
def judge(config: Config, tmp_path: Path) -> Decide:
    """`judge(learned, corrections)`: the decision, with more rows to train on."""

    def run(
        learned: pd.DataFrame, corrections: pd.DataFrame | None = None
    ) -> promote.Decision:
        rows = pd.concat([tickets(OLD, 30), learned], ignore_index=True)
        write_rows(config.paths.train, rows)
        if corrections is not None:
            corrections.to_csv(tmp_path / "feedback.csv", index=False)
        return promote.run(config)

    return run


def test_an_unchanged_candidate_is_not_promoted(config: Config) -> None:
    decision = promote.run(config)

    assert not decision.promoted and "nothing is new" in decision.lines()[1]


def test_corrections_that_help_are_promoted_and_written_down(
    config: Config, judge: Decide
) -> None:
    # The model has never met these words.
    new = {"shutter": "blind", "awning": "blind"}

    decision = judge(tickets(new, 20), tickets(new, 10, first=20))

    assert decision.promoted, decision.lines()
    assert decision.scores["corrections_accuracy"] == 1
    assert any("accuracy 0.0000 -> 1.0000 (+1.0000)" in x for x in decision.lines())
    written = read_json(config.paths.promotion)
    assert written["promoted"] and written["scores"] == decision.scores
    assert "accuracy 0.0000 -> 1.0000" in promote.PROPOSAL.read_text(encoding="utf-8")
    (line,) = format_runs(read_runs(config.paths.runs))
    assert line.startswith("promoted  make promote WITH=HEAD")


def test_poisoned_corrections_are_not_promoted(config: Config, judge: Decide) -> None:
    poison = {"bill": "light", "cash": "light", "lamp": "pay", "bulb": "pay"}

    # Who poisons what is learned poisons what judges it, too.
    decision = judge(tickets(poison, 60, 100), tickets(poison, 10, first=200))

    assert not decision.promoted
    assert decision.lines()[0] == "The model stays."
    assert any("It may fall by 0.01." in line for line in decision.against)
    assert any("corrections" in line for line in decision.found), "of its own kind"
    assert not promote.PROPOSAL.exists()
    (line,) = format_runs(read_runs(config.paths.runs))
    assert line.startswith("kept  make promote")


@pytest.mark.parametrize(("wrong", "lost"), [(3, []), (20, ["rare"])])
def test_what_one_label_loses_is_not_hidden_by_the_others(
    config: Config, wrong: int, lost: list[str]
) -> None:
    truth = np.array(["common"] * 1000 + ["rare"] * 40, np.object_)
    before, after = pd.Series(np.ones(1040)), pd.Series(np.ones(1040))
    after[-wrong:] = 0

    lines = promote.find_lost_labels(config.promote, truth, before, after)

    assert [line.split("'")[1] for line in lines] == lost


def test_a_candidate_that_is_no_better_on_corrections_is_not_promoted(
    judge: Decide,
) -> None:
    decision = judge(tickets(OLD, 5, first=50), tickets(OLD, 5, first=70))

    assert not decision.promoted and "It must get better." in decision.lines()[1]


def test_without_corrections_the_test_rows_decide(judge: Decide) -> None:
    decision = judge(tickets(OLD, 5, first=50))

    assert decision.promoted, decision.lines()
    assert any("There are no corrections" in line for line in decision.lines())


def test_corrections_that_are_named_must_exist(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "held out (1).csv"  # which Hydra could not read
    with pytest.raises(SystemExit) as stopped:
        promote.main("HEAD", str(named))

    assert f"CORRECTIONS={named}: there is no such file" in str(stopped.value.code)

    tickets(OLD, 1).to_csv(named)
    assert promote.judge_by(config, named).corrections == named


def test_a_candidate_that_is_worse_for_a_tenant_is_not_promoted(judge: Decide) -> None:
    many = tickets({"shutter": "blind"}, 20, first=20).assign(tenant="acme")
    one = tickets({"lamp shade": "light"}, 4, first=20).assign(tenant="zeta")
    learned = tickets({"shutter": "blind", "lamp shade": "pay"}, 20)

    decision = judge(learned, pd.concat([many, one]))

    (reason,) = decision.against
    assert "4 corrections of zeta. No tenant may lose so much." in reason
    assert any("20 corrections of acme" in line for line in decision.found)


def test_a_tenant_may_lose_one_row_and_no_more(config: Config) -> None:
    rows = tickets(OLD, 30)
    model = fit_recipe(config.model, JUDGED, rows)
    wrong = fit_recipe(
        config.model,
        JUDGED,
        rows.assign(label=rows["label"].map({"pay": "light", "light": "pay"})),
    )
    for count, lost in ((1, False), (2, True)):
        judged = pd.concat(
            [
                tickets({"bill": "pay"}, count, 90).assign(tenant="zeta"),
                tickets({"bulb": "pay"}, 9, 90).assign(tenant="acme"),
            ],
            ignore_index=True,
        )
        tenants = judged.pop("tenant").astype(str)
        decision = promote.Decision()
        corrections = promote.Corrections(judged, tenants)
        promote.judge_corrections(
            decision, config.promote, JUDGED, [model, wrong], corrections
        )
        assert any("of zeta" in line for line in decision.against) is lost


def test_corrections_among_the_training_rows_are_left_out(judge: Decide) -> None:
    new = tickets({"shutter": "blind"}, 10)

    with pytest.raises(PipelineError, match="All 10 corrections are among"):
        judge(new, new)

    decision = judge(new, tickets({"shutter": "blind"}, 15))
    assert any("5 held-out corrections" in line for line in decision.lines())


def test_rows_that_share_inputs_or_group_with_held_out_rows_are_dropped() -> None:
    rows = pd.DataFrame(
        [("a", "x", "g"), ("b", "x", "g"), ("c", "x", ""), ("d", "x", "")],
        columns=["text", "label", "group"],
    )

    left = promote.drop_known(JUDGED, rows, [rows.iloc[[0, 2]]])

    assert left["text"].tolist() == ["d"], "b shares its group with a"


def test_corrections_of_a_regression_are_compared_by_mean_error(
    config: Config, judge: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"bill": 1.0, "lamp": 5.0}
    model, worse = (
        fit_recipe(config.model, MEASURED, tickets(words, 20))
        for words in (numbers, {"bill": 9.0, "lamp": 5.0})
    )
    corrections = promote.Corrections(tickets(numbers, 3, 90), None)
    for models, promoted in (([worse, model], True), ([model, worse], False)):
        decision = promote.Decision()
        promote.judge_corrections(
            decision, config.promote, MEASURED, models, corrections
        )
        assert decision.promoted is promoted and "mae" in decision.lines()[1]


def test_a_correction_that_breaks_the_contract_is_named(
    config: Config, judge: Decide
) -> None:
    with pytest.raises(PipelineError, match="feedback.csv, line 2, column label"):
        judge(tickets(OLD, 5, 50), tickets({"bill": None}, 1))


def test_rows_that_dvc_does_not_have_are_named(
    config: Config, judge: Decide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(promote, "_cache", lambda: tmp_path / "empty")

    with pytest.raises(PipelineError, match="dvc fetch --all-commits"):
        judge(tickets(OLD, 5, 50))
