"""Voice-like stems by re-voicing: some leads, strings and pads are played by a choir instead, and are labelled so.

Neither Freedoom nor Slakh2100 has singing; what comes closest are the choir programs, and too few songs have them by nature.
A song that has a voice-like part of its own is never touched, and every re-voiced song keeps other instruments.
"""

import math
import statistics
from collections.abc import Sequence, Set
from dataclasses import replace

from stemscribe.corpora.identity import draw
from stemscribe.corpora.songs import Part, Song
from stemscribe.vocabulary import VOICE_LIKE

CHOIRS = (52, 53, 54)
REPLACEABLE = frozenset((*range(40, 45), *range(48, 52), *range(80, 85), 86, 87, *range(88, 91), *range(92, 96)))
FEWEST_STROKES = 8  # from which a part counts as a voice of the song
SLOWEST_ATTACK = 0.15  # seconds; notes shorter than this would be over before the choir is heard


def has_voice(song: Song) -> bool:
    """Whether a voice-like part plays in the song, more than just for a moment."""
    return any(part.program in VOICE_LIKE and len(part.strokes) >= FEWEST_STROKES for part in song.parts)


def candidates(song: Song, programs: Set[int] = REPLACEABLE) -> list[Part]:
    """The parts that may become a choir: leads, strings and pads with enough notes that are long enough.

    None, if no other instrument would be left beside bass, drums and voices.

    Args:
        song: whole or cut.
        programs: of which one is replaced.
    """
    others = [part for part in song.parts if is_other(part)]
    if len(others) < 2:
        return []
    return [part for part in others if part.program in programs and _is_singable(song, part)]


def is_other(part: Part) -> bool:
    """Whether a part sounds and is neither bass, drums nor voice."""
    return part.is_rendered and not (part.is_bass or part.is_drum or part.program in VOICE_LIKE)


def _is_singable(song: Song, part: Part) -> bool:
    lengths = [song.seconds_at(stroke.end) - song.seconds_at(stroke.start) for stroke in part.strokes]
    return len(lengths) >= FEWEST_STROKES and statistics.median(lengths) >= SLOWEST_ATTACK


def revoice(song: Song, name: str, seed: int) -> Song:
    """The song with one of its `candidates` played by a choir; part and choir are drawn by the song's `name` (identity)."""
    chosen = min(candidates(song), key=lambda part: draw(seed, f"part {part.channel} {part.program}", name))
    choir = CHOIRS[draw(seed, "choir", name) % len(CHOIRS)]
    sung = replace(chosen, program=choir, revoiced_from=chosen.program)
    return replace(song, parts=tuple(sung if part is chosen else part for part in song.parts))


def give_voices(songs: Sequence[tuple[str, Song]], share: float, seed: int) -> list[Song]:
    """Re-voice as many of a split's songs as it takes until `share` of them have a voice-like part.

    Args:
        songs: (identity, song) pairs.
        share: from 0 to 1; met as far as there are songs that can be re-voiced.
        seed: decides which songs, parts and choirs.
    Returns:
        The songs in the same order.
    """
    wanted = math.ceil(share * len(songs) - 1e-9) - sum(has_voice(song) for _, song in songs)
    able = [name for name, song in songs if not has_voice(song) and candidates(song)]
    chosen = set(sorted(able, key=lambda name: draw(seed, "song", name))[: max(wanted, 0)])
    return [revoice(song, name, seed) if name in chosen else song for name, song in songs]
