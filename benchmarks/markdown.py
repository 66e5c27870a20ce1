"""Write Markdown tables."""

import re
from collections.abc import Iterable, Sequence

# A figure, with its bound and unit, or the dash for one that is not there.
is_figure = re.compile(r"([≤≥] )?[\d,.]+( (ms|s|min|MB|%))?|–?").fullmatch


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; columns with nothing but figures are aligned to the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    rule = ["---:" if all(map(is_figure, cells)) else "---" for cells in columns]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
