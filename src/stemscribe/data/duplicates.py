"""Songs that occur twice: found by their notes, whatever they are called, transposed or rendered with.

The original splits of Slakh2100 leaked because one MIDI file had several names. A fingerprint here is a hash of the
set of (onset after the first onset, pitch above the lowest pitch), so it survives a transposition, another
instrument, another gain and silence before the first note; a changed tempo or a single changed note it does not
survive.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stemscribe.notes import DRUM_PROGRAM, Columns

ONSET_STEPS_PER_SECOND = 100  # onsets are compared to 10 ms
ENOUGH_NOTES = 64  # shorter stems (a repeated chord, four on the floor) agree by chance


def fingerprint(stems: Sequence[Columns]) -> str:
    """Hash of what several stems play together, free of transposition.

    Args:
        stems: note columns of each stem, as written (before any octave correction).

    Returns:
        Hexadecimal digest; empty when there is no note.
    """
    if not any(len(stem["onset"]) for stem in stems):
        return ""
    onsets, pitches, programs = (np.concatenate([stem[name] for stem in stems]) for name in ("onset", "pitch", "program"))
    drums = programs == DRUM_PROGRAM
    pitches = pitches.astype(np.int64)
    if not drums.all():
        pitches = np.where(drums, pitches, pitches - pitches[~drums].min())
    steps = np.rint((onsets - onsets.min()) * ONSET_STEPS_PER_SECOND).astype(np.int64)
    content = np.unique(np.stack([steps, drums.astype(np.int64), pitches], axis=1), axis=0)
    return hashlib.sha256(content.astype("<i8").tobytes()).hexdigest()


def groups(fingerprints: Mapping[str, str]) -> list[list[str]]:
    """Names that share a fingerprint, sorted; names without one (silence) share nothing."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for name in sorted(fingerprints):
        if fingerprints[name]:
            by_content[fingerprints[name]].append(name)
    return sorted(names for names in by_content.values() if len(names) > 1)


def across_splits(found: Iterable[Sequence[str]], split_of: Mapping[str, str]) -> list[list[str]]:
    """Those groups whose members (`Track00001` or `Track00001/S03`) stand in more than one split."""
    return [list(names) for names in found if len({split_of[name.split("/")[0]] for name in names}) > 1]
