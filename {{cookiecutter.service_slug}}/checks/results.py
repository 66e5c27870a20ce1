"""What a check finds: a state, the reason, and what is to do in which line."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a rule stands."""

    DONE = "done"
    TO_DO = "to do"
    WAIVED = "waived"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One thing to do; `line` counts from 1, and 0 means the whole file."""

    what: str
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """Return `file:line`, as far as they are known."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Result:
    """The state of one rule."""

    rule: str
    title: str
    state: State
    reason: str = ""
    findings: tuple[Finding, ...] = ()


class NotApplicable(Exception):
    """The rule says nothing about this service; the message is the reason."""


class NotChecked(Exception):
    """The check needs what is not here; the message says what."""


class Missing(Exception):
    """A file that the rule needs is missing; the message is its name."""
