"""The small parts: ids, group commit, and what importing the package costs."""

import subprocess
import sys
import uuid

from hypothesis import given
from hypothesis import strategies as st

from backstay.core.record import ItemRecord, Note
from backstay.journal import Waiting, is_id, uuid7
from backstay.journal.batch import LARGEST
from backstay.journal.ids import is_prefix, seconds
from tests.journal.sample import turn


@given(st.floats(0, 200_000_000_000), st.binary(min_size=10, max_size=16))
def test_an_id_is_a_uuid_of_version_7(made: float, random: bytes) -> None:
    """As RFC 9562 has it: milliseconds first, then version, random, variant, random."""
    text = uuid7(made, random)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(made * 1000)
    assert abs(seconds(text) - made) <= 0.001
    assert is_id(text)
    assert all(is_prefix(text[:length]) for length in range(37))


def test_ids_differ_and_are_sorted_by_time() -> None:
    """All but six of the eighty random bits count, and later ids are greater."""
    zero = int(uuid7(1.0, bytes(10)).replace("-", ""), 16)
    ones = int(uuid7(1.0, b"\xff" * 10).replace("-", ""), 16)
    assert (zero ^ ones).bit_count() == 74
    assert uuid7(1.0, b"\xff" * 10) < uuid7(1.5, bytes(10))


@given(st.text(alphabet="0123456789abcdefABCDEFg-/.\n", max_size=40))
def test_only_ids_are_ids(text: str) -> None:
    """The shape is that of a lower-case UUID, nothing else."""
    try:
        expected = str(uuid.UUID(text)) == text
    except ValueError:
        expected = False
    assert is_id(text) == expected
    if not set(text) <= set("0123456789abcdef-"):
        assert not is_prefix(text)


def test_everything_that_waits_goes_into_the_next_write() -> None:
    """In order, once, and no more than one write may hold."""
    waiting = Waiting()
    assert waiting.take() is None
    records = [Note(n=n, topic="") for n in range(1, LARGEST + 11)]
    waiting.add(records[:5])
    waiting.add(records[5:])
    first, second = waiting.take(), waiting.take()
    assert first is not None
    assert second is not None
    assert [*first.records, *second.records] == records
    assert len(second.records) == 10
    assert waiting.take() is None


def test_an_item_alone_needs_no_sync() -> None:
    """An item without an output is written at once and made durable by what follows it."""
    waiting = Waiting()
    records = turn(1)
    items = [record for record in records if isinstance(record, ItemRecord)]
    waiting.add(items)
    batch = waiting.take()
    assert batch is not None
    assert not batch.sync
    for record in records:
        waiting.add([*items, record])
        batch = waiting.take()
        assert batch is not None
        assert batch.sync == (record not in items)


def test_importing_costs_little() -> None:
    """What is slow to import, or not needed by every session, is not imported."""
    code = (
        "import sys, backstay.core.record; before = set(sys.modules)\n"
        "import backstay.journal; print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    own = {name for name in loaded if name.startswith("backstay.")}
    assert set(loaded) - own <= {"bisect", "_bisect", "errno", "fcntl", "time", "stat"}
    assert "backstay.journal.simulated" not in own
