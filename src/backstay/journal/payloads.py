"""Texts too large for a record: kept in blobs, named by their digest where they stood.

Where a text was, the record holds `{"$blob": DIGEST, "bytes": SIZE}`. Only the parts of a record
that come from outside (items, plans) can hold one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from backstay.core.record import AnyRecord, Known, Unknown
from backstay.errors import StorageError
from backstay.journal.blobs import Blobs, MissingBlob

LARGEST: Final = 64 * 1024
"""Bytes of a text that still stands in its record."""
_MARK: Final = "$blob"
_FIELDS: Final = ("item", "items", "plan", "plain", "prompt", "end", "carried")
"""The last three hold whole records."""


def outlined(record: Known, blobs: Blobs) -> Known:
    """The record with its large texts in blobs, which are durable when this returns.

    Raises `StorageError`.
    """

    def put(text: Any) -> Any:
        if not isinstance(text, str) or len(text) * 4 <= LARGEST:
            return text
        content = text.encode("utf-8", "replace")
        if len(content) <= LARGEST:
            return text
        return {_MARK: blobs.put(content), "bytes": len(content)}

    made: Known = _changed(record, put)
    return made


def inlined(records: Iterable[AnyRecord], blobs: Blobs) -> Iterator[AnyRecord]:
    """The records with their large texts back in place.

    One whose blob is lost, or can't be read now, says so instead.
    """

    def get(part: Any) -> Any:
        if not (isinstance(part, dict) and part.keys() == {_MARK, "bytes"}):
            return part
        try:
            return blobs.get(str(part[_MARK])).decode("utf-8", "replace")
        except (MissingBlob, StorageError) as error:
            return f"({part['bytes']} bytes stood here: {error})"

    for record in records:
        if isinstance(record, Unknown) or not _is_marked(record):
            yield record
        else:
            yield _changed(record, get)


def _changed(record: Any, change: Callable[[Any], Any]) -> Any:
    changes = {}
    for field in _FIELDS:
        before = getattr(record, field, None)
        if before is not None and (after := _walk(before, change)) is not before:
            changes[field] = after
    return msgspec.structs.replace(record, **changes) if changes else record


def _is_marked(record: msgspec.Struct) -> bool:
    """Whether a part of it may stand for a blob: most records hold none and stay as they are."""
    return any(_holds_mark(getattr(record, field, None)) for field in _FIELDS)


def _holds_mark(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return _is_marked(value)
    if isinstance(value, dict):
        return _MARK in value or any(map(_holds_mark, value.values()))
    return isinstance(value, list) and any(map(_holds_mark, value))


def _walk(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with every part changed, from outside in; itself where nothing was."""
    changed = change(value)
    if changed is not value:
        return changed
    if isinstance(value, msgspec.Struct):
        return _changed(value, change)
    if isinstance(value, dict):
        parts = {key: _walk(part, change) for key, part in value.items()}
        return parts if any(parts[key] is not value[key] for key in value) else value
    if isinstance(value, list):
        listed = [_walk(part, change) for part in value]
        return listed if any(a is not b for a, b in zip(listed, value, strict=True)) else value
    return value
