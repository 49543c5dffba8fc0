"""Reads patch text into operations.

Owns the text format (`*** Begin Patch` to `*** End Patch`) and the shell wrappings models put around
it. Knows nothing of files: where a chunk applies is `locate`'s concern, what it changes is `plan`'s.
"""

from typing import Literal

import msgspec

BEGIN = "*** Begin Patch"
END = "*** End Patch"
ADD = "*** Add File:"
DELETE = "*** Delete File:"
UPDATE = "*** Update File:"
MOVE = "*** Move to:"
END_OF_FILE = "*** End of File"

Sign = Literal[" ", "+", "-"]
Numbered = tuple[int, str]

_SIGNS: dict[str, Sign] = {" ": " ", "+": "+", "-": "-"}
_HEADERS = f"'{ADD} PATH', '{DELETE} PATH' or '{UPDATE} PATH'"


class PatchError(ValueError):
    """The patch cannot be read, or may not be applied; the message tells the model what to correct."""


class Line(msgspec.Struct, frozen=True):
    """One line of a chunk without its sign and line ending."""

    sign: Sign
    text: str


class Chunk(msgspec.Struct, frozen=True):
    """One place of an updated file: the `@@` texts to seek, then the lines to find and change."""

    sections: tuple[str, ...]
    lines: tuple[Line, ...]
    end_of_file: bool = False


class AddFile(msgspec.Struct, frozen=True):
    """Write a whole file; `lines` are without endings."""

    path: str
    lines: tuple[str, ...]

    @property
    def header(self) -> str:
        """The header line that stands for this operation in messages."""
        return f"{ADD} {self.path}"


class DeleteFile(msgspec.Struct, frozen=True):
    """Remove a file."""

    path: str

    @property
    def header(self) -> str:
        """The header line that stands for this operation in messages."""
        return f"{DELETE} {self.path}"


class UpdateFile(msgspec.Struct, frozen=True):
    """Change a file in place, or write it to `move_to` and remove it at `path`."""

    path: str
    chunks: tuple[Chunk, ...]
    move_to: str | None = None

    @property
    def header(self) -> str:
        """The header line that stands for this operation in messages."""
        return f"{UPDATE} {self.path}"


Operation = AddFile | DeleteFile | UpdateFile


def parse(text: str) -> tuple[Operation, ...]:
    """The operations of a patch, at least one, in the order written.

    Accepts padded marker lines, a here-document around the patch and a leading `apply_patch` command
    line, as models write them. Raises `PatchError`, and nothing else, for any text.
    """
    _refuse_surrogates(text)
    body = _body(_unwrapped(_numbered(text)))
    operations: list[Operation] = []
    at = 0
    while at < len(body):
        if body[at][1].strip():
            operation, at = _operation(body, at)
            operations.append(operation)
        else:
            at += 1
    if not operations:
        raise PatchError(f"the patch holds no operation; write {_HEADERS} between the markers")
    return tuple(operations)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PatchError("the patch holds half of a surrogate pair; write valid Unicode") from error


def _numbered(text: str) -> list[Numbered]:
    """The lines with their numbers from 1; a patch with CRLF markers loses the CRs of all its lines.

    Where only content lines end in CR, the CR is content: that is how a patch writes CRLF files.
    """
    lines = text.split("\n")
    marked = [line for line in lines if line.strip() in (BEGIN, END)]
    if any(line.endswith("\r") for line in marked):
        lines = [line.removesuffix("\r") for line in lines]
    return list(enumerate(lines, 1))


def _unwrapped(lines: list[Numbered]) -> list[Numbered]:
    """Without blank lines around, the `apply_patch` command line and the here-document's frame."""
    lines = _trimmed(lines)
    if not lines:
        raise PatchError(f"the patch is empty; it starts with '{BEGIN}' and ends with '{END}'")
    if lines[0][1].strip() == "apply_patch" and len(lines) > 1:
        lines = _trimmed(lines[1:])
    word = _here_word(lines[0][1].strip())
    if word is None:
        return lines
    if lines[-1][1].strip() != word:
        raise PatchError(f"the here-document is not closed: the last line must be {word!r}")
    return _trimmed(lines[1:-1])


def _trimmed(lines: list[Numbered]) -> list[Numbered]:
    first, last = 0, len(lines)
    while first < last and not lines[first][1].strip():
        first += 1
    while last > first and not lines[last - 1][1].strip():
        last -= 1
    return lines[first:last]


def _here_word(command: str) -> str | None:
    """The delimiter of `<<'EOF'` or `apply_patch <<EOF`; None when the line is something else."""
    opening = command.removeprefix("apply_patch").lstrip()
    if not opening.startswith("<<"):
        return None
    word = opening[2:].lstrip("-").strip()
    if len(word) > 2 and word[0] in "'\"" and word[-1] == word[0]:
        word = word[1:-1]
    return word if word.isidentifier() else None


def _body(lines: list[Numbered]) -> list[Numbered]:
    if not lines or lines[0][1].strip() != BEGIN:
        raise PatchError(f"the first line of the patch must be '{BEGIN}'")
    if len(lines) < 2 or lines[-1][1].strip() != END:
        raise PatchError(f"the last line of the patch must be '{END}'; it may have been cut off")
    return lines[1:-1]


def _operation(lines: list[Numbered], at: int) -> tuple[Operation, int]:
    number, line = lines[at]
    header = line.strip()
    for marker in (ADD, DELETE, UPDATE):
        if header.startswith(marker):
            path = header[len(marker) :].strip()
            if not path or "\0" in path:
                raise PatchError(f"line {number}: '{marker}' needs a path on the same line")
            return _body_of(marker, path, lines, at + 1)
    if header in (BEGIN, END):
        raise PatchError(
            f"line {number}: '{header}' in the middle of the patch; send all operations between one "
            f"'{BEGIN}' and one '{END}'"
        )
    raise PatchError(f"line {number}: {_short(line)} is not an operation; expected {_HEADERS}")


def _body_of(marker: str, path: str, lines: list[Numbered], at: int) -> tuple[Operation, int]:
    if marker == ADD:
        added, at = _added_lines(lines, at)
        return AddFile(path, added), at
    if marker == DELETE:
        return DeleteFile(path), at
    return _update(path, lines, at)


def _added_lines(lines: list[Numbered], at: int) -> tuple[tuple[str, ...], int]:
    """The `+` lines from `at`; blank lines between them count as empty ones, those after them don't."""
    added: list[str] = []
    blank = 0
    while at < len(lines) and (lines[at][1].startswith("+") or not lines[at][1].strip()):
        line = lines[at][1]
        if line.startswith("+"):
            added += [""] * blank
            added.append(line[1:])
            blank = 0
        else:
            blank += 1
        at += 1
    if at < len(lines) and not lines[at][1].lstrip().startswith("***"):
        number, line = lines[at]
        raise PatchError(
            f"line {number}: {_short(line)} in an added file; each of its lines starts with '+'"
        )
    return tuple(added), at


def _update(path: str, lines: list[Numbered], at: int) -> tuple[UpdateFile, int]:
    header = lines[at - 1][0]
    move_to = None
    if at < len(lines) and lines[at][1].strip().startswith(MOVE):
        number, line = lines[at]
        move_to = line.strip()[len(MOVE) :].strip()
        if not move_to or "\0" in move_to:
            raise PatchError(f"line {number}: '{MOVE}' needs a path on the same line")
        at += 1
    chunks: list[Chunk] = []
    while at < len(lines) and not _closes_update(lines[at][1], chunks):
        if lines[at][1].strip() or (chunks and not chunks[-1].end_of_file):
            chunk, at = _chunk(lines, at)
            chunks.append(chunk)
        else:
            at += 1
    if not chunks and move_to is None:
        raise PatchError(
            f"line {header}: the update of '{path}' is empty; write '@@' and then lines that start "
            "with ' ', '-' or '+'"
        )
    return UpdateFile(path, tuple(chunks), move_to), at


def _closes_update(line: str, chunks: list[Chunk]) -> bool:
    """Inside an update a padded `***` line is a context line; before its first chunk it's a header."""
    return (line if chunks else line.lstrip()).startswith("***")


def _chunk(lines: list[Numbered], at: int) -> tuple[Chunk, int]:
    number = lines[at][0]
    sections: list[str] = []
    while at < len(lines) and _is_section(lines[at][1]):
        sections.append(_section(lines[at][1]))
        at += 1
    found: list[Line] = []
    while at < len(lines) and not lines[at][1].startswith(("***", "@@")):
        found.append(_line(*lines[at]))
        at += 1
    if not found:
        raise PatchError(
            f"line {number}: no lines follow '@@'; write lines that start with ' ', '-' or '+'"
        )
    end_of_file = at < len(lines) and lines[at][1].rstrip() == END_OF_FILE
    chunk = Chunk(tuple(s for s in sections if s), tuple(found), end_of_file)
    return chunk, at + end_of_file


def _is_section(line: str) -> bool:
    return line.rstrip() == "@@" or line.startswith("@@ ")


def _section(line: str) -> str:
    """The text after `@@`; of a unified diff's `@@ -1,2 +3,4 @@ text` only what follows its ranges."""
    text = line[2:].removeprefix(" ").rstrip()
    ranges, closing, rest = text.partition("@@")
    words = ranges.split()
    if closing and len(words) == 2 and _is_range(words[0], "-") and _is_range(words[1], "+"):
        return rest.strip()
    return text


def _is_range(word: str, sign: str) -> bool:
    return word.startswith(sign) and word[1:].replace(",", "", 1).isdecimal()


def _line(number: int, line: str) -> Line:
    if not line:
        return Line(" ", "")
    sign = _SIGNS.get(line[0])
    if sign is not None:
        return Line(sign, line[1:])
    if not line.strip():
        return Line(" ", line)
    raise PatchError(
        f"line {number}: {_short(line)} in an update; each line starts with ' ' (unchanged), "
        "'-' (removed) or '+' (added)"
    )


def _short(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:77] + "...")
