"""Which songs are the same music: judged by their notes, never by their names.

`identity` is the same for two files with the same notes, whatever the instruments, channels or names. `similarity` also finds
a song again that was transposed, re-barred or arranged anew: it compares what its parts play in steps of nine notes, after the
n-gram fingerprints of symbolic music retrieval (Downie 1999). Of the Freedoom songs no two different ones share more than
16 % (riffs of one style); one and the same song shares nearly everything.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from stemscribe.corpora.songs import Part, Song

STEPS_PER_BEAT = 24  # grid of `identity`, fine enough for triplets and 32nds
SHINGLE_NOTES = 9
FEWEST_PITCHES = 4  # a shingle with fewer is a pedal point or a trill, which any two songs may share
SAME_SONG = 0.3  # similarity from which two songs count as one

Fingerprint = frozenset[tuple[tuple[int, int], ...]]


def identity(song: Song) -> str:
    """Hexadecimal SHA-256 of what is played when: (24th of a beat, pitch, drum or not), in order."""
    played = {
        (round(stroke.start * STEPS_PER_BEAT / song.ticks_per_beat), stroke.pitch, part.is_drum)
        for part in song.parts
        for stroke in part.strokes
    }
    return hashlib.sha256(repr(sorted(played)).encode()).hexdigest()


def draw(seed: int, purpose: str, name: str) -> int:
    """A number that looks random, the same on every machine and for all time: 64 bits of a hash.

    Each name has a number of its own, so adding or removing a song changes nothing for the others.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()[:8], "big")


def fingerprint(song: Song) -> Fingerprint:
    """The shingles of all pitched parts: nine notes as eight (interval, relative length of the step)."""
    shingles: set[tuple[tuple[int, int], ...]] = set()
    for part in song.parts:
        if not part.is_drum:
            shingles.update(_shingles(part))
    return frozenset(shingles)


def _shingles(part: Part) -> Iterable[tuple[tuple[int, int], ...]]:
    top_line = {stroke.start: stroke.pitch for stroke in part.strokes}  # strokes come by pitch, so the highest stays
    line = list(top_line.items())
    for first in range(len(line) - SHINGLE_NOTES + 1):
        notes = line[first : first + SHINGLE_NOTES]
        if len({pitch for _, pitch in notes}) >= FEWEST_PITCHES:
            unit = notes[1][0] - notes[0][0]
            yield tuple((b[1] - a[1], round(2 * math.log2((b[0] - a[0]) / unit))) for a, b in pairwise(notes))


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """The share of the smaller fingerprint that the other one has too, from 0 to 1; 0 where there is nothing to compare."""
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 0.0


def groups(songs: Sequence[Song]) -> list[list[Song]]:
    """Songs that are one and the same music stand together; groups and their songs come by identity."""
    ordered = sorted(songs, key=identity)
    prints = [fingerprint(song) for song in ordered]
    home = list(range(len(ordered)))
    for one in range(len(ordered)):
        for other in range(one):
            if home[one] != home[other] and similarity(prints[one], prints[other]) >= SAME_SONG:
                old, new = max(home[one], home[other]), min(home[one], home[other])
                home = [new if place == old else place for place in home]
    return [[song for song, h in zip(ordered, home, strict=True) if h == place] for place in sorted(set(home))]


def unrelated(songs: Iterable[Song], reserved: Iterable[Song]) -> list[Song]:
    """The songs that are none of the reserved ones, nor an arrangement of one: what a model may be trained on."""
    kept_out = list(reserved)
    names = {identity(song) for song in kept_out}
    prints = [fingerprint(song) for song in kept_out]
    return [song for song in songs if identity(song) not in names and not _resembles(fingerprint(song), prints)]


def _resembles(one: Fingerprint, others: Iterable[Fingerprint]) -> bool:
    return any(similarity(one, other) >= SAME_SONG for other in others)


def without_duplicates(songs: Iterable[Song]) -> list[Song]:
    """One song of each identity, the first one found, sorted by identity."""
    found: dict[str, Song] = {}
    for song in songs:
        found.setdefault(identity(song), song)
    return [found[name] for name in sorted(found)]
