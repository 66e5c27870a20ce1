"""docs/waivers.toml: rules that are not followed for now, each with reason and end."""

import re
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

from checks.repository import Repository
from checks.results import Finding, Result, State
from checks.rule import RULES

FILE = "docs/waivers.toml"


class WaiverError(Exception):
    """A waiver cannot be read. The message names it and what is wrong."""


@dataclass(frozen=True)
class Waiver:
    """The waiver of a rule."""

    rule: str
    reason: str
    owner: str
    expires: date


KEYS = [field.name for field in fields(Waiver)]


def load(repository: Repository) -> dict[str, Waiver]:
    """Return the waivers by their rules. Raises WaiverError, with all mistakes."""
    if not repository.has(FILE):
        return {}
    try:
        entries = repository.toml(FILE).get("waiver", [])
    except ValueError as error:
        raise WaiverError(f"{FILE} is no TOML: {error}") from None
    mistakes = [
        f"{FILE}, waiver {number}: {mistake}"
        for number, entry in enumerate(entries, 1)
        for mistake in faults(entry)
    ]
    if mistakes:
        raise WaiverError("\n".join(mistakes))
    return {entry["rule"]: Waiver(**entry) for entry in entries}


def faults(entry: dict[str, Any]) -> list[str]:
    """Return what is wrong with an entry."""
    found = [f"`{name}` is missing or empty." for name in KEYS if not entry.get(name)]
    extra = sorted(entry.keys() - set(KEYS))
    found += [f"`{name}` is no key of a waiver." for name in extra]
    if "rule" in entry and entry["rule"] not in RULES:
        found.append(f"there is no rule {entry['rule']}: docs/rules.md lists them.")
    if "expires" in entry and type(entry["expires"]) is not date:
        found.append("`expires` is a date without quotes: expires = 2027-01-31.")
    return found


def waive(result: Result, waivers: dict[str, Waiver], repository: Repository) -> Result:
    """Return the result as waived, or with what an expired waiver asks for."""
    waiver = waivers.get(result.rule)
    if waiver is None or result.state is not State.TO_DO:
        return result
    until = f"until {waiver.expires}, {waiver.owner}"
    if waiver.expires >= repository.today:
        reason = f"{waiver.reason} ({until})"
        return replace(result, state=State.WAIVED, reason=reason)
    text = repository.read(FILE)
    line = re.search(rf"^rule *= *[\"']{result.rule}[\"']", text, re.M)
    number = text[: line.start()].count("\n") + 1 if line else 0
    expired = Finding(f"The waiver has expired ({until}).", FILE, number)
    return replace(result, findings=(*result.findings, expired))
