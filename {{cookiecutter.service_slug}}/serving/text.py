"""Normalise texts: the same in training and serving, and in linear time."""

import re
import unicodedata
from functools import lru_cache

# Unicode's stream-safe format (UAX #15, section 13): a run of more marks than any
# language needs is broken by an invisible character.
MAX_MARKS = 30
JOINER = "\u034f"  # COMBINING GRAPHEME JOINER


def normalise(text: str) -> str:
    """Fold case, Unicode width and white space. The model sees only this form.

        normalise("Turn  ON the lights") == "turn on the lights"

    It runs here because lower-casing inside ONNX Runtime depends on the locale of the
    machine. It is toNFKC_Casefold of the Unicode Standard (section 3.13, D146) without
    the removal of ignorable characters, and idempotent.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    # NFKD sorts each run of marks, in time quadratic in its length.
    folded = unicodedata.normalize("NFKD", break_marks(text)).casefold()
    folded = break_marks(unicodedata.normalize("NFKD", folded))
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def break_marks(text: str) -> str:
    """Insert a joiner after each `MAX_MARKS` marks in a row."""
    return _maybe_marks.sub(_break_run, text)


# `\w` matches no mark but two halfwidth ones.
_maybe_marks = re.compile(r"[\W\uff9e\uff9f]{" + str(MAX_MARKS + 1) + ",}")


def _break_run(run: re.Match[str]) -> str:
    parts: list[str] = []
    count = 0
    for character in run[0]:
        count = count + 1 if _is_mark(character) else 0
        if count > MAX_MARKS:
            parts.append(JOINER)
            count = 1
        parts.append(character)
    return "".join(parts)


@lru_cache(maxsize=1_024)
def _is_mark(character: str) -> bool:
    """Return whether a character decomposes to a mark (a non-starter) first."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.combining(first) > 0
