"""The rules: their page, their waivers, and the hook that reads commit messages."""

from datetime import date
from pathlib import Path

import pytest

from checks import generated, markdown
from checks.all import RULES, check_all
from checks.commit_message import faults
from checks.repository import Repository
from checks.results import Result, State
from checks.rubric import PARTS, QUESTIONS, answer_all, score
from checks.waivers import WaiverError
from serving.testing import ROOT

TODAY = date(2027, 1, 31)
WAIVER = '[[waiver]]\nrule = "V1"\nreason = "Why."\nowner = "@me"\nexpires = {}\n'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository that has nothing but a directory as the remote of DVC."""
    config = tmp_path / ".dvc" / "config"
    config.parent.mkdir()
    config.write_text("[core]\nremote = a\n['remote \"a\"']\nurl = ../b\n")
    return Repository(tmp_path, TODAY)


def waive(repository: Repository, text: str) -> None:
    """Write docs/waivers.toml."""
    file = repository.root / "docs" / "waivers.toml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")


def test_the_page_of_the_rules_follows_from_their_checks() -> None:
    page = (ROOT / generated.RULES_PAGE).read_text(encoding="utf-8")

    assert page == generated.rules_page(), "run `make docs`"
    assert [f"### {number}" in page for number in RULES] == [True] * len(RULES)


def test_what_is_to_do_has_its_file_and_line(repository: Repository) -> None:
    (result,) = check_all(repository, ["V1"])

    assert result.state is State.TO_DO
    assert [one.place for one in result.findings] == [".dvc/config:4", "dvc.lock"]


def test_a_document_may_name_the_verbs_of_an_option(repository: Repository) -> None:
    (repository.root / "Makefile").write_text("-include */verbs.mk\nask: ## Ask\n")
    option = repository.root / "option" / "verbs.mk"
    option.parent.mkdir()
    option.write_text("review: export A = 1\nreview: $(READY) ## Decide\n")
    text = "`make ask`, `make review`, `make tea`\n"
    (repository.root / "README.md").write_text(text)

    (result,) = check_all(repository, ["D2"])

    assert repository.verbs == {"ask": "Ask", "review": "Decide"}
    assert [one.what for one in result.findings] == ["There is no `make tea`."]


def test_a_waiver_holds_until_its_last_day(repository: Repository) -> None:
    waive(repository, WAIVER.format(TODAY))

    (result,) = check_all(repository, ["V1"])

    assert result.state is State.WAIVED
    assert result.reason == "Why. (until 2027-01-31, @me)"


def test_an_expired_waiver_is_to_do(repository: Repository) -> None:
    waive(repository, WAIVER.format("2027-01-30"))

    (result,) = check_all(repository, ["V1"])

    assert result.state is State.TO_DO
    assert result.findings[-1].place == "docs/waivers.toml:2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (WAIVER.format('"2027-01-30"'), "`expires` is a date without quotes"),
        (WAIVER.format(TODAY).replace("V1", "X1"), "there is no rule X1"),
        ('[[waiver]]\nrule = "V1"\n', "`reason` is missing or empty"),
        ("[[waiver\n", "is no TOML"),
    ],
)
def test_a_waiver_that_cannot_be_read_is_named(
    repository: Repository, text: str, reason: str
) -> None:
    waive(repository, text)

    with pytest.raises(WaiverError, match=reason):
        list(check_all(repository))


@pytest.mark.parametrize(
    ("message", "changed", "mistakes"),
    [
        ("Add a button", ["app/api.py"], 0),
        ("Fix it", ["app/api.py"], 2),
        ("Fix it (#12)", ["app/api.py", "tests/app/test_api.py"], 0),
        ("fix(api): it\n\nFixes KEY-7", ["Makefile"], 0),
        ("Fix it\n\nhttps://tracker.test/7", ["app/api.py"], 1),
        ("Fix a word", ["README.md"], 0),
        ("Fix it\n\n" + "The label of an empty text was " * 2, ["dvc.yaml"], 0),
    ],
)
def test_a_fix_says_what_was_wrong_and_changes_a_test(
    message: str, changed: list[str], mistakes: int
) -> None:
    assert len(list(faults(message, changed))) == mistakes


def test_code_and_front_matter_hold_no_headings() -> None:
    text = "---\na: 1 # no\n---\n# Title\n\n```sh\n# comment\n```\n\n## Part\n"

    assert [one.title for one in markdown.sections(text)] == ["Title", "Part"]
    assert markdown.front_matter(text) == {"a": 1}
    assert markdown.anchors("# A `b_c`\n\n# A b_c\n") == {"a-b_c", "a-b_c-1"}


def test_an_empty_repository_has_no_points(tmp_path: Path) -> None:
    rules = [Result(rule, "", State.TO_DO) for rule in RULES]

    answers = answer_all(Repository(tmp_path, TODAY), rules)

    assert [one.question for one in answers if one.points] == []
    assert score(answers) == dict.fromkeys(PARTS, 0)
    assert [sum(q.part == part for q in QUESTIONS) for part in PARTS] == [7] * 4
