"""A session as it is exported: its records with secrets redacted, and what is known beside them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from backstay.core.prices import price_of
from backstay.core.record import AnyRecord, Unknown
from backstay.core.usage import Price, Usage, cost
from backstay.doctor.export.redact import Redactor
from backstay.journal import Holder, holder, lock_path, look
from backstay.journal.disk import Disk
from backstay.journal.label import Label, read_label
from backstay.journal.texts import own_records, spent, turn_order


class Source(msgspec.Struct, kw_only=True):
    """What a format is made of."""

    id: str
    cwd: str
    label: Label
    records: list[AnyRecord]
    """All that survived, of a fork with what it shares; large texts in place."""
    damage: list[str]
    order: dict[int, int]
    """By the number of a turn's prompt: the how-manieth turn it is, from 1."""
    usage: Usage
    cost: float | None
    """US dollars; None where a price is not known."""
    prices: Mapping[str, Price]
    holder: Holder | None
    """The process that writes it now."""
    redacted: bool


def source(
    disk: Disk, folder: str, redactor: Redactor | None, prices: Mapping[str, Price]
) -> Source:
    """Read a session whole. Raises `EmptySession`, `StorageError`."""
    reading = look(disk, folder)
    used = spent(own_records(disk, folder, reading.records))
    label, records = read_label(disk, folder), reading.records
    damage = [str(one) for one in reading.damage]
    cwd = reading.identity.cwd if reading.identity else ""
    if redactor is not None:
        for value in (label.title, cwd, *map(_plain, records), damage):
            redactor.learn(value)
        label = msgspec.structs.replace(label, title=redactor.text(label.title))
        records = list(_redacted(records, redactor))
        damage = redactor.value(damage)
        cwd = redactor.text(cwd)
    return Source(
        id=folder.rpartition("/")[2],
        cwd=cwd,
        label=label,
        records=records,
        damage=damage,
        order=turn_order(records),
        usage=sum(used.values(), Usage()),
        cost=cost_of(used, prices),
        prices=prices,
        holder=holder(lock_path(folder)),
        redacted=redactor is not None,
    )


def cost_of(usage: Mapping[str, Usage], prices: Mapping[str, Price]) -> float | None:
    """What tokens by model cost; None where a model's price is not known."""
    total = 0.0
    for model, tokens in usage.items():
        one = cost(tokens, price_of(model, prices))
        if one is None:
            return None
        total += one
    return total


def _plain(record: AnyRecord) -> Any:
    return None if isinstance(record, Unknown) else msgspec.to_builtins(record)


def _redacted(records: list[AnyRecord], redactor: Redactor) -> Iterator[AnyRecord]:
    for record in records:
        plain = _plain(record)
        made = redactor.value(plain)
        yield record if made is plain else msgspec.convert(made, type(record))
