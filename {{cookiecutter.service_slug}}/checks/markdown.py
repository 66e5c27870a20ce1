"""Read Markdown by its lines: sections, links, code, front matter."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

HEADING = re.compile(r"(#{1,6}) +(.+?) *#*$")
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^()\s]+)\)")
SPAN = re.compile(r"(?<!\\)`([^`]+)`")


@dataclass(frozen=True)
class Section:
    """What stands below a heading, up to the next one of any level."""

    level: int
    title: str
    line: int  # of the heading
    text: str


def lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield number and text of each line, and whether it is code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r" *(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
        yield number, line, bool(fence or mark or re.match(r"    +\S", line))


def sections(text: str) -> list[Section]:
    """Return the sections, without what stands in front of the first heading."""
    found: list[tuple[int, str, int, list[str]]] = []
    for number, line, code in lines(text):
        heading = None if code else HEADING.fullmatch(line)
        if heading:
            found.append((len(heading[1]), heading[2], number, []))
        elif found:
            found[-1][3].append(line)
    return [
        Section(level, title, line, "\n".join(body))
        for level, title, line, body in found
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and GitLab make them."""
    found: set[str] = set()
    for section in sections(text):
        plain = re.sub(r"[^\w\- ]", "", unescape(section.title).lower())
        anchor = plain.strip().replace(" ", "-")
        again = sum(
            bool(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", a)) for a in found
        )
        found.add(f"{anchor}-{again}" if again else anchor)
    return found


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and target of each link outside of code."""
    for number, line, code in lines(text):
        if not code:
            plain = SPAN.sub("", line)
            yield from ((number, target) for target in LINK.findall(plain))


def spans(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each piece of code within a line."""
    for number, line, code in lines(text):
        if not code:
            yield from ((number, span) for span in SPAN.findall(line))


def rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of the rows of tables, heads included."""
    for number, line, code in lines(text):
        if not code and line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            yield number, [unescape(cell.strip()) for cell in cells]


def front_matter(text: str) -> dict[str, Any]:
    """Return the YAML between two lines of dashes at the top; empty without one."""
    found = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    read = yaml.safe_load(found[1]) if found else None
    return read if isinstance(read, dict) else {}


def line_of(text: str, part: str) -> int:
    """Return the number of the first line that contains a text; 0 if none does."""
    return next(
        (number for number, line in enumerate(text.splitlines(), 1) if part in line), 0
    )


def unescape(text: str) -> str:
    """Return a text as Markdown shows it."""
    return re.sub(r"\\([\\`*_\[\]<>&~|])", r"\1", text)
