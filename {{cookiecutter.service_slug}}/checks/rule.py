"""The list of all rules, and how one is checked."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from checks.repository import Repository
from checks.results import Finding, Missing, NotApplicable, NotChecked, Result, State

Check = Callable[[Repository], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A rule and its check."""

    number: str
    check: Check

    @property
    def title(self) -> str:
        """Return the first sentence of the check's docstring."""
        return self.text.partition("\n")[0].rstrip(".")

    @property
    def text(self) -> str:
        """Return the docstring of the check."""
        return inspect.getdoc(self.check) or ""

    def run(self, repository: Repository) -> Result:
        """Check a repository. A check that crashes counts as something to do."""
        findings: list[Finding] = []
        state, reason = State.DONE, ""
        try:
            findings += self.check(repository)
        except NotApplicable as error:
            state, reason = State.NOT_APPLICABLE, str(error)
        except NotChecked as error:
            state, reason = State.NOT_CHECKED, str(error)
        except Missing as error:
            findings.append(Finding(f"{error} is missing.", str(error)))
        except Exception as error:
            reason = f"The check failed: {type(error).__name__}: {error}"
            findings.append(Finding(reason))
        if findings:
            state, reason = State.TO_DO, ""
        return Result(self.number, self.title, state, reason, tuple(findings))


RULES: dict[str, Rule] = {}


def rule(number: str) -> Callable[[Check], Check]:
    """Add the check of a rule to RULES."""

    def enter(check: Check) -> Check:
        RULES[number] = Rule(number, check)
        return check

    return enter
