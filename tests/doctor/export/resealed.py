"""Journal lines that were edited, with checksums that are right again."""

from binascii import crc32


def resealed(content: bytes) -> bytes:
    """The same lines, each with the checksum of what it says."""
    made = []
    for line in content.splitlines():
        head = line[:-16]
        made.append(b'%b,"c":"%08x"}\n' % (head, crc32(head)))
    return b"".join(made)
