"""Which paragraphs of the documents still have the words of the template."""

import hashlib
import re

# The hash of each paragraph that a person is to replace, of old templates, too.
STUBS = frozenset(
    {
        "0626d36965990214",
        "0c0be49c80c2b7be",
        "0d5047584b8ed447",
        "28d23617bf0d49b9",
        "3a883b406ebb5ae1",
        "5719a56a6b562c7a",
        "5a4a2b5d6adb03bc",
        "5a88f9376bdf3afa",
        "6516b57e7da2b117",
        "786164ef5a483d74",
        "818b2ef178632c8a",
        "88229ca5f378711e",
        "912b912069f148a6",
        "957fecc167d10e58",
        "b144ff6300bad146",
        "b4f576ad6ef76424",
        "b568869796bb9a89",
        "c001eb319c2c4aff",
        "cc7d7440042dcf18",
        "fc33dbe26129d23a",
    }
)


def digest(paragraph: str) -> str:
    """Return the hash of a paragraph's words, without the mark TODO."""
    words = re.sub(r"TODO(\(owner\))?:", "", paragraph).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def is_stub(text: str) -> bool:
    """Return whether a section is empty or has a paragraph of the template's."""
    return not text.strip() or any(digest(one) in STUBS for one in text.split("\n\n"))
