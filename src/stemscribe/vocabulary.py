"""The 596 tokens, and the instruments behind them: programs, classes, channels, drums.

The one promise: these numbers are the published checkpoint's; changing one silently breaks its weights.
After MT3 (Gardner et al. 2022) and YourMT3+ (Chang et al. 2024, task `mc13_full_plus_256`).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from stemscribe.notes import DRUM_PROGRAM

TICKS_PER_SECOND = 100
"""The token clock: one tick is 10 ms."""

PAD, EOS, UNK = 0, 1, 2
SHIFT_0 = 3
"""`SHIFT_0 + v`: go to tick v of the segment (absolute, not a step); v = 0 is never written."""
MAX_SHIFT = 205
PITCH_0 = SHIFT_0 + MAX_SHIFT + 1
"""`PITCH_0 + p`: the note p begins or ends, as velocity says, on the current program."""
VELOCITY_0 = PITCH_0 + 128
"""`VELOCITY_0`: what follows ends. `VELOCITY_0 + 1`: what follows begins. There is no loudness."""
TIE = VELOCITY_0 + 2
"""Ends the list of notes that were already sounding when the segment began."""
PROGRAM_0 = TIE + 1
DRUM_0 = PROGRAM_0 + 128
"""`DRUM_0 + d`: the drum d is hit."""
VOCABULARY_SIZE = DRUM_0 + 128

PROGRAM_CLASSES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("Acoustic Piano", (0, 1, 3, 6, 7)),
    ("Electric Piano", (2, 4, 5)),
    ("Chromatic Percussion", (8, 9, 10, 11, 12, 13, 14, 15)),
    ("Organ", (16, 17, 18, 19, 20, 21, 22, 23)),
    ("Acoustic Guitar", (24, 25)),
    ("Clean Electric Guitar", (26, 27, 28)),
    ("Distorted Electric Guitar", (29, 30, 31)),
    ("Acoustic Bass", (32, 35)),
    ("Electric Bass", (33, 34, 36, 37, 38, 39)),
    ("Violin", (40,)),
    ("Viola", (41,)),
    ("Cello", (42,)),
    ("Contrabass", (43,)),
    ("Orchestral Harp", (46,)),
    ("Timpani", (47,)),
    ("String Ensemble", (48, 49, 44, 45)),
    ("Synth Strings", (50, 51)),
    ("Choir and Voice", (52, 53, 54)),
    ("Orchestra Hit", (55,)),
    ("Trumpet", (56, 59)),
    ("Trombone", (57,)),
    ("Tuba", (58,)),
    ("French Horn", (60,)),
    ("Brass Section", (61, 62, 63)),
    ("Soprano and Alto Sax", (64, 65)),
    ("Tenor Sax", (66,)),
    ("Baritone Sax", (67,)),
    ("Oboe", (68,)),
    ("English Horn", (69,)),
    ("Bassoon", (70,)),
    ("Clarinet", (71,)),
    ("Pipe", (73, 72, 74, 75, 76, 77, 78, 79)),
    ("Synth Lead", (80, 81, 82, 83, 84, 85, 86, 87)),
    ("Synth Pad", (88, 89, 90, 91, 92, 93, 94, 95)),
    ("Singing", (100,)),
    ("Chorus", (101,)),
)
"""MT3's instrument classes. The first program of a class is the one the tokens, hence the predictions, speak of."""

CHANNELS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("Piano", tuple(range(0, 8))),
    ("Chromatic Percussion", tuple(range(8, 16))),
    ("Organ", tuple(range(16, 24))),
    ("Guitar", tuple(range(24, 32))),
    ("Bass", tuple(range(32, 40))),
    ("Strings", tuple(range(40, 56))),
    ("Brass", tuple(range(56, 64))),
    ("Reed", tuple(range(64, 72))),
    ("Pipe", tuple(range(72, 80))),
    ("Synth Lead", tuple(range(80, 88))),
    ("Synth Pad", tuple(range(88, 96))),
    ("Singing", (100, 101)),
    ("Drums", (DRUM_PROGRAM,)),
)
"""The model's 13 decoding channels. Programs 96-99 and 102-127 (effects) have none: the model is deaf to them."""

VOICE_LIKE: frozenset[int] = frozenset((52, 53, 54, 85, 91))
"""Programs that sound like voices: choir aahs, voice oohs, synth choir, lead voice, pad choir. None of them is singing."""

SUNG: frozenset[int] = VOICE_LIKE | {100, 101}
"""The same with the base's own programs for singing: what the frame head calls a voice."""

CHANNEL_NAMES: tuple[str, ...] = tuple(name for name, _ in CHANNELS)
NUM_CHANNELS = len(CHANNELS)

DRUM_CLASSES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("Kick", (36, 35)),
    ("Side Stick", (37, 2)),
    ("Snare", (38, 40)),
    ("Closed Hi-Hat", (42, 44, 22)),
    ("Open Hi-Hat", (46, 26)),
    ("Cowbell", (56,)),
    ("High Floor Tom", (43,)),
    ("Low Floor Tom", (41,)),
    ("Low Tom", (45,)),
    ("Low-Mid Tom", (47,)),
    ("High-Mid Tom", (48,)),
    ("High Tom", (50,)),
    ("Vibraslap", (58,)),
    ("Ride", (51,)),
    ("Ride Bell", (53,)),
    ("Ride 2", (59,)),
    ("Chinese Cymbal", (52,)),
    ("Crash", (49, 57)),
    ("Splash", (55,)),
)
"""General MIDI drum groups. The first pitch of a group stands for it; drums in no group keep their own pitch."""


def _groups(*groups: tuple[int, ...]) -> Mapping[int, int]:
    return MappingProxyType({member: group[0] for group in groups for member in group})


KICK_SNARE_HIHAT: Mapping[int, int] = _groups((36, 35), (38, 40), (42, 44, 46, 22, 26))
"""Drum pitch -> kick 36, snare 38 or hi-hat 42, as the base's authors score; other drums are left out on both sides."""

FIVE_DRUMS: Mapping[int, int] = _groups(
    (36, 35),
    (38, 37, 39, 40),
    (47, 41, 43, 45, 48, 50),
    (42, 44, 46, 22, 26),
    (49, 51, 52, 53, 55, 57, 59),
)
"""Drum pitch -> kick 36, snare 38 (with side stick and clap), tom 47, hi-hat 42 or cymbal 49; others are left out."""

DRUM_NAMES: Mapping[int, str] = MappingProxyType({group[0]: name for name, group in DRUM_CLASSES})
"""Name of each drum class, by the pitch that stands for it."""

PROGRAM_CLASS_NAMES: Mapping[int, str] = MappingProxyType(
    {**{group[0]: name for name, group in PROGRAM_CLASSES}, DRUM_PROGRAM: "Drums"}
)
"""Name of each instrument class, by the program that stands for it."""

_CLASS_OF_PROGRAM = _groups(*(group for _, group in PROGRAM_CLASSES))
_CLASS_OF_DRUM = _groups(*(group for _, group in DRUM_CLASSES))
_CHANNEL_OF_PROGRAM: Mapping[int, int] = MappingProxyType(
    {program: channel for channel, (_, programs) in enumerate(CHANNELS) for program in programs}
)


def program_token_class(program: int) -> int:
    """The program that stands for this one in tokens: the first of its class, or itself (effects, drums)."""
    return _CLASS_OF_PROGRAM.get(program, program)


def class_name(program: int) -> str:
    """The name of this program's instrument class; one that is in none is called by its number."""
    return PROGRAM_CLASS_NAMES.get(program_token_class(program), f"Program {program}")


def is_drums(programs: Iterable[int]) -> bool:
    """Whether these are the drums and nothing else."""
    return set(programs) == {DRUM_PROGRAM}


def drum_class(pitch: int) -> int:
    """The drum that stands for this one in tokens: the first of its General MIDI group, or itself."""
    return _CLASS_OF_DRUM.get(pitch, pitch)


def channel_of(program: int) -> int | None:
    """The channel on which the model writes this program, or None if it never does."""
    return _CHANNEL_OF_PROGRAM.get(program)


def channels_of(programs: Iterable[int]) -> tuple[int, ...]:
    """The channels, ascending, on which the model writes any of these programs."""
    found = {channel_of(program) for program in programs}
    return tuple(sorted(channel for channel in found if channel is not None))


def own_classes(programs: Iterable[int]) -> frozenset[int]:
    """The classes that belong to a set of programs rather than to others: those with at least half of their programs in it.

    The eight synth leads are one class, and one of them (85, lead voice) is voice-like. Where a model hears everything, a note
    of that class is far more likely a lead than a voice, so the class is the leads'. Programs in no class stand for themselves.
    """
    given = frozenset(programs)
    shared = {group[0]: len(given & set(group)) / len(group) for _, group in PROGRAM_CLASSES}
    outside = {program for program in given if program not in _CLASS_OF_PROGRAM}
    return frozenset(outside | {first for first, share in shared.items() if share >= 0.5})


def class_programs(programs: Iterable[int]) -> frozenset[int]:
    """The programs by which predictions can name any of these programs: {35, 36} -> {32, 33}."""
    return frozenset(program_token_class(program) for program in programs)
