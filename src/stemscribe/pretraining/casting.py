"""Who plays what in a take of a song: voices, other instruments of the same family, and the soundfont of each part.

A take has a name, and everything is drawn from seed and name, so two takes of a song differ and each is the same for ever. What
a part is called afterwards is what sounds: program and drum keys are changed with the sound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stemscribe.corpora.identity import draw
from stemscribe.corpora.revoice import REPLACEABLE, candidates, is_other
from stemscribe.corpora.songs import Part, Song, separate_strokes
from stemscribe.errors import DataError
from stemscribe.pretraining.soundfonts import SoundFontSource
from stemscribe.vocabulary import VOICE_LIKE

SINGABLE = REPLACEABLE | frozenset((*range(56, 62), *range(64, 80)))  # melodies of winds too, since nothing else may be there
VOICES = (52, 52, 53, 53, 54, 54, 85, 91)  # drawn evenly, so choirs, which the demo has most of, come most often
FIXED = VOICE_LIKE | {31, 45, 46, 47, 55, 78, 86}  # harmonics, plucked strings, timpani, hit, whistle, a lead in fifths
PLAYED_SHARE = 0.9  # of its notes that a drum kit must be able to play


@dataclass(frozen=True)
class Dice:
    """Numbers drawn for one take."""

    seed: int
    take: str

    def number(self, purpose: str, sides: int) -> int:
        """A whole number below `sides`."""
        return draw(self.seed, purpose, self.take) % sides

    def share(self, purpose: str) -> float:
        """A number in [0, 1)."""
        return draw(self.seed, purpose, self.take) / 2**64

    def weighted(self, purpose: str, weights: Mapping[str, float]) -> str:
        """One of the names, each as often as its weight says."""
        left = self.share(purpose) * sum(weights.values())
        for name, weight in weights.items():
            left -= weight
            if left < 0:
                return name
        return next(reversed(list(weights)))


def sing(song: Song, dice: Dice, share: float, most: int) -> Song:
    """Let voices sing up to `most` parts in a `share` of the takes; what voices sing anyway is sung by any voices.

    At least one instrument stays beside bass, drums and voices.
    """
    others = sum(is_other(part) for part in song.parts)
    singers: list[Part] = [part for part in song.parts if part.program in VOICE_LIKE]
    if dice.share("sing") < share:
        able = sorted(candidates(song, SINGABLE), key=lambda part: dice.number(f"singer {part.channel} {part.program}", 2**32))
        singers += able[: min(1 + dice.number("singers", most), others - 1)]
    return replace(song, parts=tuple(_sung(part, dice) if part in singers else part for part in song.parts))


def _sung(part: Part, dice: Dice) -> Part:
    return _cast(part, VOICES[dice.number(f"voice {part.channel} {part.program}", len(VOICES))])


def recast(song: Song, dice: Dice, share: float) -> Song:
    """Give a `share` of the instruments another program of their General MIDI family; drums and voices stay."""
    return replace(song, parts=tuple(_recast(part, dice, share) for part in song.parts))


def _recast(part: Part, dice: Dice, share: float) -> Part:
    purpose = f"{part.channel} {part.program}"
    if part.is_drum or not part.is_rendered or part.program in FIXED or dice.share(f"recast {purpose}") >= share:
        return part
    first = part.program // 8 * 8
    family = [program for program in range(first, first + 8) if program not in FIXED]
    return _cast(part, family[dice.number(f"program {purpose}", len(family))])


def _cast(part: Part, program: int) -> Part:
    if program == part.program:
        return part
    return replace(part, program=program, revoiced_from=part.program if part.revoiced_from is None else part.revoiced_from)


def equip(song: Song, dice: Dice, weights: Mapping[str, float], fonts: Mapping[str, SoundFontSource]) -> tuple[Song, list[str]]:
    """Draw a soundfont for each part.

    Returns:
        The song, in which a drum kit only has the keys that the drawn one has, and the name of each part's soundfont.
    Raises:
        DataError: if no soundfont can play a part.
    """
    chosen: list[str] = []
    parts: list[Part] = []
    for part in song.parts:
        able = {name: weight for name, weight in weights.items() if _can_play(fonts[name], part)}
        if not able:
            raise DataError(f"no soundfont in params.yaml can play program {part.program} of {song.name}; name another one")
        name = dice.weighted(f"soundfont {part.channel} {part.program}", able)
        chosen.append(name)
        parts.append(_on_kit(part, fonts[name]) if fonts[name].is_kit else part)
    return replace(song, parts=tuple(parts)), chosen


def _can_play(font: SoundFontSource, part: Part) -> bool:
    if not part.is_drum:
        return not font.is_kit and part.program not in font.lacks
    return not font.is_kit or len(_on_kit(part, font).strokes) >= PLAYED_SHARE * len(part.strokes)


def _on_kit(part: Part, font: SoundFontSource) -> Part:
    """The drums as a kit can play them: other keys instead of some that it lacks, the rest left out."""
    instead = dict(font.kit_instead)
    moved = [replace(stroke, pitch=instead.get(stroke.pitch, stroke.pitch)) for stroke in part.strokes]
    return replace(part, strokes=separate_strokes(stroke for stroke in moved if stroke.pitch in font.kit), kit=0)
