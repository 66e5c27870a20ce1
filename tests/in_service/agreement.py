"""The fast path and FastAPI agree on whatever is sent, bodies by the thousand.

It extends the tables of `tests/serving/test_contract.py` of a service.
"""

import gzip
import json
import operator
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.test_contract import (
    DIFFERENCES,
    VALID,
    Sent,
    Sides,
    Verdict,
    notes,
    sides,
    with_extra,
    with_note,
)
from tests.serving.toy import MAX_CLAIMS, MAX_NOTE

__all__ = ["sides"]  # the fixture

ACCEPTED = {
    "one claim": VALID,
    "keys in another order": b'{"urgent": true, "claims": [{"note": "a"}]}',
    "a key that is spelled with escapes": VALID.replace(b"note", rb"\u006eote"),
    "the later of two lists": VALID[:-1] + b', "claims": [{"note": "later"}]}',
    "a note of white space only": notes(" \t\n\u00a0\u2003\u3000"),
    "a note with a zero byte": with_note(r'"a\u0000b"'),
    "an emoji as bytes": with_note('"\U0001f600"'),
    "a delete and what is no character": with_note('"\x7f\ufffe\U0010ffff"'),
    "a byte order mark in a note": with_note('"\ufeffdent"'),
    "accents that combine": notes("e\u0301", "\u00e9", "\u1e9b\u0323", "\u0345"),
    "the longest note, of emojis": notes("\U0001f600" * MAX_NOTE),
    "the longest note, that grows": notes("ﬃ" * MAX_NOTE),
}

REJECTED = {
    "null": b"null",
    "a string": b'"dent"',
    "not a number": b"NaN",
    "claims that are null": b'{"claims": null}',
    "claims that are a string": b'{"claims": "dent"}',
    "claims that are an object": b'{"claims": {"0": {"note": "dent"}}}',
    "a claim that is a list of pairs": b'{"claims": [["note", "dent"]]}',
    "keys in capitals": b'{"Claims": [{"Note": "dent"}]}',
    "keys with a space": b'{"claims ": [{"note ": "dent"}]}',
    "a note that is null": with_note("null"),
    "a note that is a list": with_note('["dent"]'),
    "a note that is infinite": with_note("-Infinity"),
    "a note that is a huge number": with_note("9" * 4300),
    "a note that is beyond all floats": with_note("1e999"),
    "a note that is a float of many digits": with_note("0." + "1" * 5000),
    "a note that is minus zero": with_note("-0"),
    "the later of two notes": with_note('"dent", "note": 1'),
    "a note that is too long, of emojis": notes("\U0001f600" * (MAX_NOTE + 1)),
    "a claim too many": notes(*["dent"] * (MAX_CLAIMS + 1)),
    "many claims, and all wrong": notes(*[""] * MAX_CLAIMS),
    "urgency that is a number": VALID[:-1] + b', "urgent": 1}',
    "urgency that is null": VALID[:-1] + b', "urgent": null}',
    "urgency that is not a number": VALID[:-1] + b', "urgent": NaN}',
    "an extra field twice": with_extra('1, "extra": 2'),
    "an extra field of a claim": with_note('"dent", "label": "x"'),
    "an extra field named as an index": with_extra('1, "0": 1'),
    "an extra field, 199 deep": with_extra("[" * 199 + "]" * 199),
}

UNREADABLE = {
    "Latin-1": with_note('"é"').decode().encode("latin-1"),
    "a character in too many bytes": with_note('"?"').replace(b"?", b"\xc0\x80"),
    "half a character": with_note('"?"').replace(b"?", b"\xf0\x9f\x98"),
    "such a byte in a key": with_extra('1, "?": 1').replace(b"?", b"\xff"),
    "such a byte in a value that a later one replaces": with_note(
        '"?", "note": "dent"'
    ).replace(b"?", b"\xff"),
    "brackets without number": b"[" * 100_000 + b"]" * 100_000,
    "a compressed body": gzip.compress(VALID),
}

MEDIA_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'application/json; charset="utf-8',
    "application/json; charset=",
    "application/json; charset=ü",
    "application/json; profile=x; version=1",
    "application/json;",
    "application/json\t",
]

MORE_EXAMPLES = {
    "a body that is no JSON": {
        "white space": Sent(b" \n"),
        "a word": Sent(b"nonsense"),
        "half a word": Sent(b"nul"),
        "single quotes": Sent(b"{'claims': []}"),
        "a key without quotes": Sent(b"{claims: []}"),
        "a comment": Sent(b"/* */" + VALID),
        "cut off": Sent(VALID[:-1]),
        "a second document": Sent(VALID + VALID),
        "a vertical tab in front": Sent(b"\v" + VALID),
        "a no-break space in front": Sent("\u00a0".encode() + VALID),
        "a line break in a string": Sent(with_note('"a\nb"')),
        "an unknown escape": Sent(with_note(r'"\x41"')),
        "a short escape": Sent(with_note(r'"\u12"')),
        "a number with a leading zero": Sent(with_note("01")),
        "a number with a plus": Sent(with_note("+1")),
        "a number that ends in a point": Sent(with_note("1.")),
        "a hexadecimal number": Sent(with_note("0x1")),
        "not a number, negative": Sent(with_note("-NaN")),
        "infinity, abbreviated": Sent(with_note("inf")),
        "True as in Python": Sent(with_extra("True")),
    },
    "another encoding than UTF-8": {
        "UTF-16 without a mark": Sent(VALID.decode().encode("utf-16-be")),
        "UTF-32": Sent(VALID.decode().encode("utf-32")),
        "UTF-16 that breaks the contract": Sent("{}".encode("utf-16")),
    },
    "half of a surrogate pair": {
        "the second half": Sent(with_note(r'"\ude00"')),
        "both in the wrong order": Sent(with_note(r'"\ude00\ud83d"')),
        "in a key": Sent(with_extra(r'1, "\ud83d": 2')),
    },
    "values in each other, over 200 deep": {
        "objects": Sent(with_extra('{"a":' * 201 + "1" + "}" * 201)),
    },
    "a media type that builds upon JSON": {
        "a vendor's": Sent(VALID, ("application/vnd.api+json; charset=utf-8",)),
        "a body that is no JSON": Sent(b"{", ("application/ld+json",)),
    },
    "a body that is not declared as JSON": {
        "an empty declaration": Sent(VALID, ("",)),
        "nothing declared, nothing sent": Sent(b"", ()),
        "JSON as text": Sent(VALID, ("text/json",)),
        "a form": Sent(b"note=dent", ("application/x-www-form-urlencoded",)),
        "half a media type": Sent(VALID, ("json",)),
        "no semicolon": Sent(VALID, ("application/json charset=utf-8",)),
        "quotes": Sent(VALID, ('"application/json"',)),
        "any type": Sent(VALID, ("*/*",)),
    },
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_both_accept_a_valid_body(sides: Sides, body: bytes) -> None:
    assert sides.compare(Sent(body)).status == 200


@pytest.mark.parametrize("body", REJECTED.values(), ids=REJECTED)
def test_both_refuse_and_name_the_same_mistakes(sides: Sides, body: bytes) -> None:
    assert sides.compare(Sent(body)).status == 422


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_both_answer_400_to_an_unreadable_body(sides: Sides, body: bytes) -> None:
    assert sides.verdicts(Sent(body)) == (Verdict(400), Verdict(400))


@pytest.mark.parametrize("declared", MEDIA_TYPES)
def test_both_read_a_media_type_of_json_as_utf_8(sides: Sides, declared: str) -> None:
    assert sides.compare(Sent(with_note('"éü"'), (declared,))).status == 200


@pytest.mark.parametrize("name", MORE_EXAMPLES)
def test_each_difference_is_as_the_table_says(sides: Sides, name: str) -> None:
    row = DIFFERENCES[name]

    for example, sent in MORE_EXAMPLES[name].items():
        ours, theirs = sides.verdicts(sent)

        assert row.concerns(sent), example
        assert ours.status == row.service, example
        assert theirs.status in row.fastapi, example
        assert ours != theirs, f"{example}: this is no difference any more"


# Text as people write it, and as nobody should: also halves of surrogate pairs.
TEXT = st.text(max_size=20) | st.text(st.characters(categories=["Cs", "Zs", "Cc"]))
KEY = st.sampled_from(["claims", "note", "urgent", "amount", "Note", "", "a/b"]) | TEXT
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.integers().map(str)
    | TEXT
)
VALUE = st.recursive(
    SCALAR,
    lambda value: st.lists(value, max_size=4) | st.dictionaries(KEY, value, max_size=4),
    max_leaves=10,
)
GOOD_CLAIM = st.fixed_dictionaries({"note": st.text(min_size=1, max_size=20)})
GOOD = st.fixed_dictionaries(
    {"claims": st.lists(GOOD_CLAIM, min_size=1, max_size=5)},
    optional={"urgent": st.booleans()},
)
# What is nearly good: fields are missing, of another type, or too many.
POOR_CLAIM = VALUE | st.builds(
    operator.or_,
    st.just({}) | st.dictionaries(KEY, VALUE, max_size=2),
    st.fixed_dictionaries({}, optional={"note": TEXT | VALUE}),
)
POOR = VALUE | st.builds(
    operator.or_,
    st.just({}) | st.dictionaries(KEY, VALUE, max_size=2),
    st.fixed_dictionaries(
        {},
        optional={
            "claims": st.lists(GOOD_CLAIM | POOR_CLAIM, max_size=5) | VALUE,
            "urgent": st.booleans() | VALUE,
        },
    ),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A good or poor request as JSON, written in one of the ways to write it."""
    text = json.dumps(
        draw(GOOD | POOR),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 1, "\t"])),
    )
    encodings = ["utf-8"] * 20 + ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"]
    return text.encode(draw(st.sampled_from(encodings)), "surrogatepass")


# JSON by the piece, so that keys may come twice.
VALUES = [
    "1",
    "-0",
    "1e999",
    "null",
    "true",
    "NaN",
    "-Infinity",
    '""',
    '"b"',
    "[]",
    "{}",
]
NAMES = ['"note"', '"claims"', '"urgent"', r'"\u006eote"', '"Note"', '"a/b"']


def written(*members: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects with some of these members, in any order and each as often as it may."""
    some = st.lists(st.one_of(*members), min_size=1, max_size=3)
    return some.map(lambda each: "{" + ", ".join(each) + "}")


ANY_MEMBER = st.builds("{}: {}".format, st.sampled_from(NAMES), st.sampled_from(VALUES))
NOTE_MEMBER = st.text(max_size=20).map(json.dumps).map('"note": {}'.format)
CLAIMS_MEMBER = st.lists(
    written(NOTE_MEMBER, NOTE_MEMBER, ANY_MEMBER), min_size=1, max_size=3
).map(lambda each: f'"claims": [{", ".join(each)}]')
REPETITIVE = written(CLAIMS_MEMBER, CLAIMS_MEMBER, ANY_MEMBER).map(str.encode)

# What, in the wrong place, makes another request of one, or none.
MEMBERS = ['"note": "b",', '"note": 1,', '"claims": [{"note": "c"}],', '"x": 1,']
CHARACTERS = ["", " ", "\n", "\0", "\v", '"', "\\", ",", ":", "[", "}", "é", "\ufeff"]
ESCAPES = [r"\u0000", r"\u00e9", r"\ud83d", r"\ude00", r"\u12", r"\x41", r"\/"]
PIECE = st.binary(max_size=3) | st.sampled_from(
    [piece.encode() for piece in (*VALUES, *MEMBERS, *CHARACTERS, *ESCAPES)]
)

_tokens = re.compile(rb'"(?:[^"\\]|\\.)*"|\w+|.', re.DOTALL).findall
_bytes = re.compile(rb".", re.DOTALL).findall


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """A good request in which some tokens or bytes are cut out, replaced or put in."""
    body = json.dumps(draw(GOOD), ensure_ascii=draw(st.booleans())).encode()
    parts = draw(st.sampled_from([_tokens, _bytes]))(body)
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(parts) - 1))
        end = start + draw(st.sampled_from([0, 1, 1, 1, 2, 8]))
        parts[start:end] = [draw(PIECE)]
    return b"".join(parts)


def test_both_agree_on_whatever_is_sent(sides: Sides) -> None:
    statuses: Counter[int] = Counter()

    @settings(max_examples=1_500, derandomize=True, database=None, deadline=None)
    @given(body=bodies() | REPETITIVE | mutilated())
    def agree(body: bytes) -> None:
        statuses[sides.compare(Sent(body)).status] += 1

    agree()
    print(f"The service and FastAPI agree on {statuses.total()} bodies: {statuses}")
    assert min(statuses[200], statuses[400], statuses[422]) > 200, "a lopsided sample"
    assert set(statuses) == {200, 400, 422}
