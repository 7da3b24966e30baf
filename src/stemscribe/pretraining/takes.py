"""Takes of songs: which part of a song is played, by whom, and with which soundfonts; pure functions of songs and seed.

A song is heard several times, each time another part of it (if it is long enough), with another cast and in other timbres. What
validates is heard as the demo renders it, and once more in mixed timbres.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stemscribe.corpora.excerpts import excerpt
from stemscribe.corpora.identity import identity
from stemscribe.corpora.planning import plan_tracks
from stemscribe.corpora.songs import Song
from stemscribe.corpora.tracks import PlannedTrack
from stemscribe.pretraining.casting import Dice, equip, recast, sing
from stemscribe.pretraining.params import SongParams
from stemscribe.pretraining.soundfonts import SoundFontSource

FEWEST_STROKES = 8  # from which a part counts as heard
FEWEST_INSTRUMENTS = 2  # that are pitched; bass and drums are welcome, but not every song that teaches has them
SHORTEST_SECONDS = 20.0


def teaches(song: Song) -> bool:
    """Whether at least two pitched instruments that are rendered play for long enough."""
    heard = [part for part in song.parts if part.is_rendered and not part.is_drum and len(part.strokes) >= FEWEST_STROKES]
    return len(heard) >= FEWEST_INSTRUMENTS and song.seconds >= SHORTEST_SECONDS


def training_takes(
    songs: Sequence[Song], params: SongParams, fonts: Mapping[str, SoundFontSource], paths: Mapping[str, Path], seed: int
) -> list[PlannedTrack]:
    """The takes of all songs, in their order; tracks are numbered from Track00001.

    Args:
        songs: whole songs to train on.
        params: how many takes, and how they are cast.
        fonts: what is known of the soundfonts that `params` names.
        paths: where their files are.
        seed: decides everything that is drawn.
    """
    planned: list[PlannedTrack] = []
    for song in songs:
        name, taken = identity(song), list[float]()
        for number in range(1, params.takes + 1):
            part = excerpt(song, params.seconds, taken)
            taken.append(part.start_seconds)
            dice = Dice(seed, f"{name} take {number}")
            played = recast(sing(part, dice, params.voiced_share, params.most_voices), dice, params.recast_share)
            planned.append(_in_timbres(PlannedTrack("", "train", played, name, params.seconds), dice, params, fonts, paths))
    return _numbered(planned)


def validation_takes(
    songs: Sequence[Song],
    voiced_share: float,
    params: SongParams,
    fonts: Mapping[str, SoundFontSource],
    paths: Mapping[str, Path],
    plain: Path,
    seed: int,
) -> list[PlannedTrack]:
    """Each song as the demo has it, all in its soundfont `plain`, and the same music with a soundfont for each part."""
    demo = plan_tracks({"validation": songs}, params.seconds, voiced_share, seed)
    alike = [replace(track, soundfonts=(plain,) * len(track.song.parts)) for track in demo]
    mixed = [_in_timbres(track, Dice(seed, f"{track.identity} validation"), params, fonts, paths) for track in demo]
    return _numbered([*alike, *mixed])


def _in_timbres(
    track: PlannedTrack, dice: Dice, params: SongParams, fonts: Mapping[str, SoundFontSource], paths: Mapping[str, Path]
) -> PlannedTrack:
    song, names = equip(track.song, dice, params.soundfonts, fonts)
    return replace(track, song=song, soundfonts=tuple(paths[name] for name in names))


def _numbered(tracks: Sequence[PlannedTrack]) -> list[PlannedTrack]:
    return [replace(track, track=f"Track{number:05d}") for number, track in enumerate(tracks, start=1)]
