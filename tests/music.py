"""Builders for the tests' music: `note("C4", 1.5, 2.5)` and `drum("kick", 1.0)`."""

from stemscribe.notes import DRUM_PROGRAM, DRUM_SECONDS, Note

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
DRUMS = {"kick": 36, "snare": 38, "hihat": 42, "open hihat": 46, "tom": 45, "ride": 51, "crash": 49}


def pitch(name: str) -> int:
    """MIDI pitch of a name such as C4 (60), F#2 or Bb3."""
    accidentals = {"#": 1, "b": -1}
    middle = sum(accidentals[sign] for sign in name[1:] if sign in accidentals)
    octave = int(name[1:].lstrip("#b"))
    return 12 * (octave + 1) + STEPS[name[0]] + middle


def note(name: str, onset: float, offset: float, program: int = 0, velocity: int = 100) -> Note:
    """A pitched note; times in seconds."""
    return Note(onset, offset, pitch(name), program, velocity)


def drum(name: str, onset: float, velocity: int = 100) -> Note:
    """A hit on a drum of `DRUMS`; the onset in seconds."""
    return Note(onset, onset + DRUM_SECONDS, DRUMS[name], DRUM_PROGRAM, velocity)
