"""The questions are few, worded for people, and safe to leave at their defaults."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.questions import CHOICES, QUESTIONS, answer

FILE = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
PROMPTS = FILE["__prompts__"]


def test_every_question_is_worded_and_nothing_else_is() -> None:
    assert list(PROMPTS) == list(QUESTIONS)
    assert len(QUESTIONS) <= 18


@pytest.mark.parametrize("question", CHOICES)
def test_the_first_choice_is_the_recommended_one(question: str) -> None:
    labels = PROMPTS[question]

    assert labels["__prompt__"]
    assert set(labels) - {"__prompt__"} <= set(CHOICES[question])
    recommended = [
        name for name in CHOICES[question] if "recom" in labels.get(name, "")
    ]
    assert recommended == CHOICES[question][:1]


def test_the_readme_says_what_each_question_changes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## What each question changes")[1].split("\n## ")[0]

    assert [row.split("`")[1] for row in section.splitlines() if row[:3] == "| `"] == (
        list(QUESTIONS)
    )


def test_the_version_of_the_template_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert FILE["_template_version"] == project["project"]["version"]


@pytest.mark.parametrize("question", CHOICES)
def test_every_default_of_every_choice_is_accepted(
    tmp_path: Path, question: str
) -> None:
    for name in CHOICES[question]:
        typed = {question: name, "service_name": "Google Search -- Über 3000"}
        (tmp_path / name).mkdir()
        outcome = answer(tmp_path / name, typed, only_checked=True)
        assert not outcome.refused, outcome.said
