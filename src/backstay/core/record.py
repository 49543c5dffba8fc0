"""The records of a journal and their codec: one JSON object a line, closed by a checksum.

A line is the record's JSON with `,"c":"<crc32 of what stands before it, 8 hex digits>"}` at its
end. A kind that is not known is kept as `Unknown` and skipped, unless it says `must`.
`docs/journal.md` describes every field.
"""

from binascii import crc32
from typing import Any, ClassVar, Final, Literal, TypeVar, cast

import msgspec

from backstay.core.items import Item

FORMAT: Final = 1
"""The number of the journal's format, in its header and in every record that can replace it."""

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes. A longer line is damage."""


class Basis(msgspec.Struct, frozen=True):
    """What every request of a session holds beside its input, as blob digests (sha256, hex)."""

    instructions: str
    tools: str


class Process(msgspec.Struct, frozen=True):
    """A process that can be told from a later one with the same pid."""

    pid: int
    start: int
    """Its start time as the platform counts it: clock ticks since boot on Linux."""


class SpoolRange(msgspec.Struct, frozen=True):
    """The bytes of a command's output that an output record shows."""

    effect: str
    begin: int
    end: int


class Record(msgspec.Struct, tag_field="k", kw_only=True, omit_defaults=True):
    """What all records share: their number, and when they were written (Unix seconds)."""

    n: int
    t: float = 0.0


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which records of another session a fork shares: all up to `upto`, where they stand."""

    parent: str
    """The id of the session in whose file record `upto` stands."""
    upto: int
    offset: int
    """Where that record's line begins, in bytes; a hint, since a file can be written anew."""
    check: int
    """CRC-32 of that line without its newline."""
    first: int
    """The first of the shared records that the view is made of: a compaction, or 1."""
    digest: str
    """Sha256 (hex) over number and CRC-32 of each record from `first` to `upto`."""
    key: str
    """The `prompt_cache_key` that goes with the shared records."""


class Imported(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a session came from that another agent began."""

    agent: str
    """`codex`, `claude` or `agents-sdk`."""
    id: str
    """What it is called there."""
    digest: str
    """Sha256 (hex) of the file that it was read from."""


NO_BASIS: Final = Basis("", "")
"""Instructions and tools that are not chosen yet: the next request brings today's."""


class Session(Record, tag="session"):
    """The header: the first record of a journal, in a fork the first behind the shared ones."""

    id: str
    cwd: str
    basis: Basis
    format: int = FORMAT
    version: str = ""
    origin: Origin | None = None
    """Of a fork; its `fork` record says the same once more."""
    imported: Imported | None = None
    """Of a session that another agent began."""


class Prompt(Record, tag="prompt"):
    """An accepted prompt. It repeats of the header what a journal without one needs."""

    id: str
    cwd: str
    basis: Basis
    items: list[Item]
    model: str
    provider: str = ""
    effort: str = ""
    format: int = FORMAT
    schema: dict[str, Any] | None = None
    """The JSON Schema that the turn's answer is to have."""
    letter: str = ""
    """The letter of the inbox that it came in."""


class Attempt(Record, tag="attempt"):
    """One try at one response, about to be sent."""

    turn: int
    """The number of the turn's prompt record."""
    step: int
    superseded: list[int] = []
    """Records of the attempt before this one that leave the view."""
    model: str = ""
    provider: str = ""
    effort: str = ""
    basis: Basis | None = None
    """Where instructions or tools change with this attempt; a prompt brings its own."""
    why: str = ""
    """Empty for a first try, else what went wrong with the one before."""


class ItemRecord(Record, tag="item"):
    """An item of a response that needs no output of ours."""

    attempt: int
    index: int
    item: Item


class Call(Record, tag="call"):
    """A call item; it gets exactly one output."""

    attempt: int
    index: int
    item: Item


class Start(Record, tag="start"):
    """The call's effect is about to start."""

    call: int
    effect: str
    boot: str = ""
    supervisor: Process | None = None
    plan: dict[str, Any] | None = None


Status = Literal[
    "done", "failed", "yielded", "never_started", "interrupted", "deadline", "unknown", "rejected"
]
"""How a call came to its output. `done`, `failed` and `yielded` are the tool's own words."""


class Output(Record, tag="output"):
    """The one output of a call: final, never rewritten, never joined by a second."""

    call: int
    item: Item
    status: Status = "done"
    spool: SpoolRange | None = None
    show: dict[str, Any] | None = None
    """What a person is shown beside the text: exit code, changed files."""
    whole: list[str] = []
    """Digests of the blobs that hold the whole of what the item holds head and tail of."""


class Late(Record, tag="late"):
    """A result that came after its call's output; the model gets it as a message."""

    call: int
    item: Item


class AttemptEnd(Record, tag="attempt_end"):
    """How an attempt ended, after its calls were drained."""

    attempt: int
    outcome: str
    reason: str = ""
    code: str = ""
    status: int | None = None
    response: str = ""
    usage: dict[str, Any] | None = None


class TurnEnd(Record, tag="turn_end"):
    """How a turn ended. A failed or interrupted one can be continued."""

    turn: int
    outcome: Literal["completed", "failed", "interrupted", "superseded"]
    reason: str = ""
    item: Item | None = None
    """What the model is told about a cut turn."""


class Fork(Record, tag="fork"):
    """This session goes on behind records of another one. It repeats the header, as a prompt does.

    A version that does not know it must not write to the session: `must` is always true.
    """

    id: str
    cwd: str
    basis: Basis
    origin: Origin
    must: bool
    format: int = FORMAT
    ended: Literal["completed", "failed", "interrupted", "superseded"] = "completed"
    """The outcome of the last shared turn."""
    item: Item | None = None
    """What the model is told about commands that it can't reach from here."""


class Repair(Record, tag="repair"):
    """A decision that changes the view, or a statement of damage, with its reason."""

    action: str
    reason: str
    attempt: int = 0
    """The attempt whose refusal led to it, or 0."""
    target: int = 0
    """The record that it is about: of an item, or of the first repair that is taken back."""
    at: int = 0
    """Which item of that record, where it holds several, counted from 0."""
    field: str = ""
    """What is not sent any more: a field of the request, or `item:TYPE.FIELD` of items."""


class Note(Record, tag="note"):
    """Something worth keeping: a reopened turn, commands that were ended."""

    topic: str
    text: str = ""
    turn: int = 0
    item: Item | None = None
    """What the model is told, where it is told."""


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a turn has used before a compaction that it goes on behind.

    All but `steps` counts from when the turn was last reopened.
    """

    steps: int = 0
    """The number of the last step that is done."""
    counted: int = 0
    """Steps that came to their end."""
    cut: int = 0
    """Attempts that were cut, stalled or failed."""
    usage: dict[str, Any] | None = None
    """The sum of what its attempts used, in the provider's own words, the summary included."""


class Compaction(Record, tag="compaction"):
    """The view up to here is replaced by these items; nothing before it is read again."""

    id: str
    cwd: str
    basis: Basis
    items: list[Item]
    turn: int = 0
    """The prompt record of the turn that goes on behind it, or 0."""
    model: str = ""
    provider: str = ""
    effort: str = ""
    format: int = FORMAT
    tally: Tally = Tally()
    """What that turn has used until here."""
    prompt: Prompt | None = None
    """That turn's prompt, where it is known."""
    end: TurnEnd | None = None
    """How that turn ended, where it has and may be continued."""
    carried: list[Prompt | Repair | Note] = []
    """Records from before that still count: queued prompts, repairs of the request, notes."""
    shown: dict[str, int] = {}
    """How many bytes of each effect that may still be asked for the model was shown."""
    running: dict[str, str] = {}
    """Those of them that the model takes for running, each with the boot it was started in."""
    schema: dict[str, Any] | None = None
    """That of the turn that goes on."""
    letters: list[str] = []
    """The newest letters of the inbox that became prompts."""
    plain: Item | None = None
    """What stands for an encrypted summary where another provider is asked."""
    reason: str = ""
    """Why it was made: the window is nearly full, the provider refused the length, it was asked."""
    usage: dict[str, Any] | None = None
    """What the summary itself used."""
    before: int = 0
    """The estimated tokens of the view that was replaced."""
    after: int = 0
    """Those of the view that replaces it."""


class Unknown(msgspec.Struct):
    """A whole record of a kind that this version does not know."""

    n: int
    kind: str
    must: bool
    raw: bytes


Known = (
    Session
    | Prompt
    | Attempt
    | ItemRecord
    | Call
    | Start
    | Output
    | Late
    | AttemptEnd
    | TurnEnd
    | Compaction
    | Fork
    | Repair
    | Note
)
AnyRecord = Known | Unknown
KINDS: Final = frozenset(str(kind.__struct_config__.tag) for kind in Known.__args__)


class Damaged(ValueError):
    """A line that is no whole record; the text says why."""


class _Envelope(msgspec.Struct):
    n: int
    k: str
    must: bool = False


class Codec:
    """Encodes records to lines and back. Holds msgspec's compiled coders and nothing else."""

    _encoder: ClassVar = msgspec.json.Encoder()
    _decoder: ClassVar = msgspec.json.Decoder(Known)
    _envelope: ClassVar = msgspec.json.Decoder(_Envelope)

    def encode(self, record: Known) -> bytes:
        """The record's line, newline included.

        A lone surrogate, which JSON can carry and UTF-8 can't, becomes U+FFFD.
        """
        try:
            body = self._encoder.encode(record)
        except UnicodeEncodeError:
            body = self._encoder.encode(scrub(msgspec.to_builtins(record)))
        return b'%b,"c":"%08x"}\n' % (body[:-1], crc32(body[:-1]))

    def decode(self, line: bytes) -> AnyRecord:
        """The record of a line with or without its newline. Raises `Damaged`."""
        line = line.removesuffix(b"\n")
        head, tail = line[:-16], line[-16:]
        if tail != b',"c":"%08x"}' % crc32(head):
            raise Damaged("its checksum is wrong" if tail[:5] == b',"c":' else "it is not whole")
        body = head + b"}"
        try:
            return cast("Known", self._decoder.decode(body))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            return self._unknown(body, error)

    def _unknown(self, body: bytes, error: Exception) -> Unknown:
        try:
            head = self._envelope.decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise Damaged("it is not a record") from None
        if head.k in KINDS:
            raise Damaged(f"its fields are wrong: {error}")
        return Unknown(head.n, head.k, head.must, body)


Mended = TypeVar("Mended", bound=msgspec.Struct)


def mended(value: Mended) -> Mended:
    """The struct itself, or where UTF-8 can't say it its copy without lone surrogates."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.convert(scrub(msgspec.to_builtins(value)), type(value))
    return value


def scrub(value: Any) -> Any:
    """The same value with every lone surrogate in its strings replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {scrub(key): scrub(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(part) for part in value]
    return value
