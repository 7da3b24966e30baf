"""Reading the lumps of a WAD, the archive of Doom-engine games, in which Freedoom ships its music as standard MIDI files.

Every offset of the file is checked before it is used: a broken WAD is an error, never a wrong lump.
Format: 4 bytes `IWAD` or `PWAD`, int32 number of lumps, int32 place of the directory; a directory entry is int32 place,
int32 size and 8 bytes of name, little-endian.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from stemscribe.errors import DataError

HEADER = struct.Struct("<4sii")
ENTRY = struct.Struct("<ii8s")
MIDI_MAGIC = b"MThd"


@dataclass(frozen=True, slots=True)
class Lump:
    """One named piece of a WAD."""

    name: str
    content: bytes


def read_lumps(wad: bytes, where: str) -> Iterator[Lump]:
    """All lumps in the order of the directory.

    Args:
        wad: the whole file.
        where: how messages name it.
    Raises:
        DataError: if this is no WAD or an entry points outside of it.
    """
    if len(wad) < HEADER.size:
        raise DataError(f"{where} is no WAD: only {len(wad)} bytes; fetch it again")
    magic, count, place = HEADER.unpack_from(wad)
    if magic not in (b"IWAD", b"PWAD"):
        raise DataError(f"{where} is no WAD: it begins with {magic!r}; fetch it again")
    if count < 0 or place < HEADER.size or place + count * ENTRY.size > len(wad):
        raise DataError(f"{where} is a broken WAD: its directory lies outside the file; fetch it again")
    for index in range(count):
        start, size, name = ENTRY.unpack_from(wad, place + index * ENTRY.size)
        if size < 0 or (size and (start < 0 or start + size > len(wad))):
            raise DataError(f"{where} is a broken WAD: lump {index} lies outside the file; fetch it again")
        yield Lump(name.split(b"\0")[0].decode("ascii", "replace"), wad[start : start + size])


def midi_lumps(wad: bytes, where: str) -> list[Lump]:
    """The lumps that are standard MIDI files."""
    return [lump for lump in read_lumps(wad, where) if lump.content.startswith(MIDI_MAGIC)]
