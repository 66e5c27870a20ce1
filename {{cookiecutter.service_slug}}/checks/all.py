"""All rules, in the order in which they are shown."""

from collections.abc import Iterator

from checks import (  # noqa: F401 - each adds its rules to rule.RULES
    code,
    data,
    documents,
    rule,
    team,
    waivers,
    watch,
    words,
)
from checks.generated import GROUPS
from checks.repository import Repository
from checks.results import Result

ORDER = [*GROUPS]
RULES = dict(
    sorted(
        rule.RULES.items(),
        key=lambda entry: (ORDER.index(entry[0][0]), int(entry[0][1:])),
    )
)


def check_all(
    repository: Repository, only: list[str] | None = None
) -> Iterator[Result]:
    """Yield the result of each rule, or of some. Raises WaiverError."""
    known = waivers.load(repository)
    for number, one in RULES.items():
        if not only or number in only:
            yield waivers.waive(one.run(repository), known, repository)
