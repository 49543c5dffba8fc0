"""The codec of the journal: nothing is lost on the way to a line and back, no damage passes."""

from binascii import crc32
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.core.record import (
    KINDS,
    Basis,
    Call,
    Codec,
    Compaction,
    Damaged,
    ItemRecord,
    Known,
    Note,
    Output,
    Process,
    Prompt,
    Session,
    SpoolRange,
    Start,
    Unknown,
    scrub,
)

CODEC = Codec()
BASIS = Basis("i" * 64, "t" * 64)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**90), 2**90)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
items = st.dictionaries(texts, values, max_size=4)
numbers = st.integers(1, 2**53)
records: st.SearchStrategy[Known] = st.one_of(
    st.builds(Session, n=numbers, id=texts, cwd=texts, basis=st.just(BASIS)),
    st.builds(
        Prompt,
        n=numbers,
        id=texts,
        cwd=texts,
        basis=st.just(BASIS),
        items=st.lists(items, max_size=2),
        model=texts,
    ),
    st.builds(ItemRecord, n=numbers, attempt=numbers, index=st.integers(0, 99), item=items),
    st.builds(Call, n=numbers, attempt=numbers, index=st.integers(0, 99), item=items),
    st.builds(
        Start,
        n=numbers,
        call=numbers,
        effect=texts,
        supervisor=st.none() | st.builds(Process, numbers, numbers),
        plan=st.none() | items,
    ),
    st.builds(
        Output,
        n=numbers,
        call=numbers,
        item=items,
        spool=st.none() | st.builds(SpoolRange, texts, numbers, numbers),
    ),
    st.builds(Compaction, n=numbers, id=texts, cwd=texts, basis=st.just(BASIS), items=st.just([])),
    st.builds(Note, n=numbers, t=st.floats(0, 2e9), topic=texts, item=st.none() | items),
)


def closed(body: bytes) -> bytes:
    """A line with a right checksum around a JSON object."""
    head = body.removesuffix(b"}")
    return b'%b,"c":"%08x"}\n' % (head, crc32(head))


@given(records)
def test_a_record_comes_back_as_it_went(record: Known) -> None:
    """Every record is one line of JSON, and that line is the record again."""
    line = CODEC.encode(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert msgspec.json.decode(line)["k"] in KINDS
    assert CODEC.decode(line) == record
    assert CODEC.decode(line[:-1]) == record


@given(records, st.data())
def test_a_changed_byte_is_noticed(record: Known, draw: st.DataObject) -> None:
    """A byte of a line that became any other byte makes the line damaged."""
    line = bytearray(CODEC.encode(record)[:-1])
    at = draw.draw(st.integers(0, len(line) - 1))
    line[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        CODEC.decode(bytes(line))


def test_every_flipped_bit_of_a_line_is_noticed() -> None:
    """No single bit of a whole line can flip unseen, its newline aside."""
    line = CODEC.encode(Note(n=7, topic="kept", text="é", item={"type": "message"}))[:-1]
    for at in range(len(line)):
        for bit in range(8):
            torn = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]
            with pytest.raises(Damaged):
                CODEC.decode(torn)


def test_a_torn_line_is_noticed_wherever_it_is_torn() -> None:
    """No proper prefix of a line is a record, nor one followed by zeros."""
    line = CODEC.encode(Call(n=3, attempt=2, index=0, item={"call_id": 'a","c":"00000000"}'}))[:-1]
    for end in range(len(line)):
        with pytest.raises(Damaged):
            CODEC.decode(line[:end])
        with pytest.raises(Damaged):
            CODEC.decode(line[:end] + bytes(len(line) - end))


def test_damage_says_what_it_is() -> None:
    """A wrong checksum, a torn line, no record and wrong fields are told apart."""
    line = CODEC.encode(Note(n=1, topic="x"))
    for damaged, words in (
        (line.replace(b'"x"', b'"y"'), "checksum"),
        (line[:10], "not whole"),
        (closed(b'{"k":"note"}'), "not a record"),
        (closed(b'{"k":"note","n":"1"}'), "not a record"),
        (closed(b'{"k":"note","n":1}'), "fields are wrong"),
        (closed(b'["note"}'), "not a record"),
        (closed(b'{"k":"note","n":1,"topic":"\xff"}'), "fields are wrong|not a record"),
    ):
        with pytest.raises(Damaged, match=words):
            CODEC.decode(damaged)


def test_a_kind_that_is_not_known_is_kept() -> None:
    """A whole record of another version keeps its bytes, its number and whether it is a must."""
    body = b'{"k":"moon","n":12,"phase":[1,2]}'
    assert CODEC.decode(closed(body)) == Unknown(12, "moon", must=False, raw=body)
    found = CODEC.decode(closed(b'{"k":"moon","must":true,"n":13}'))
    assert isinstance(found, Unknown)
    assert found.must


def test_unknown_fields_of_a_known_kind_are_no_damage() -> None:
    """A newer version may add fields to a record."""
    assert CODEC.decode(closed(b'{"k":"note","n":1,"topic":"x","new":{}}')) == Note(n=1, topic="x")


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """What UTF-8 can't say costs its own place only; whole pairs and all else stay."""
    text = "a\ud83d\ude00b\udc00c\ud800"
    record = Note(n=1, topic="x", item={"t": text, "k\udfff": [text, 5, None, (text,)]})
    read = CODEC.decode(CODEC.encode(record))
    assert isinstance(read, Note)
    mended = "a\U0001f600b\ufffdc\ufffd"
    assert read.item == {"t": mended, "k\ufffd": [mended, 5, None, [mended]]}
    assert scrub(read.item) == read.item


@pytest.mark.parametrize("number", [2**63, 2**64, 10**40, -(2**64), 1e308, 5e-324, 0.1])
def test_numbers_keep_their_value(number: Any) -> None:
    """Integers beyond 64 bits and floats at the edge come back exactly."""
    read = CODEC.decode(CODEC.encode(Note(n=1, topic="x", item={"v": number})))
    assert isinstance(read, Note)
    assert read.item == {"v": number}
