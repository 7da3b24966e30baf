"""Excerpts and re-voicing: the right part of a song, sung where nobody sang."""

import mido
import pytest

from band import BEAT_SECONDS, DRUMS, TICKS, Line, band, beat, midi, walk
from stemscribe.corpora.excerpts import RELEASE_SECONDS, cut, excerpt, length_seconds
from stemscribe.corpora.identity import identity
from stemscribe.corpora.revoice import CHOIRS, candidates, give_voices, has_voice, revoice
from stemscribe.corpora.songs import read_song


def test_the_excerpt_is_where_bass_and_drums_play() -> None:
    lead = Line(1, 81, walk(60, 160))
    rhythm = Line(0, 33, walk(36, 40, first=80)), Line(DRUMS, 0, beat(40, first=80))
    song = read_song(midi(lead, *rhythm), "S", "c")
    part = excerpt(song, 20)
    assert part.start_seconds == 80 * BEAT_SECONDS
    assert [(each.program, len(each.strokes)) for each in part.parts] == [(33, 40), (81, 40), (128, 120)]


def test_a_short_song_is_taken_whole_and_given_time_to_die_away() -> None:
    song = band(beats=48)
    part = excerpt(song, 60)
    assert part.parts == song.parts
    assert length_seconds(part, 60) == pytest.approx(song.seconds + RELEASE_SECONDS)
    assert length_seconds(excerpt(song, 10), 10) == 10


def test_an_excerpt_starts_from_silence_and_keeps_time() -> None:
    bends = [(0, _wheel(1000)), (3, _wheel(-500)), (9, _wheel(0))]
    slower = (6, _tempo(1_000_000))
    song = read_song(midi(Line(0, 33, [(0, 6, 40), (4, 1, 43), (8, 4, 45)], [*bends, slower])), "S", "c")
    part = cut(song, 4 * TICKS, 5.5)  # until beat 10.5
    (bass,) = part.parts
    assert [(s.start / TICKS, s.end / TICKS, s.pitch) for s in bass.strokes] == [(0, 1, 43), (4, 6.5, 45)]  # 40 rang already
    assert bass.bends == ((0, -500), (5 * TICKS, 0))
    assert part.tempi == ((0, 500_000), (2 * TICKS, 1_000_000))
    for stroke, whole in zip(bass.strokes, song.parts[0].strokes[1:], strict=True):
        assert part.seconds_at(stroke.start) == pytest.approx(song.seconds_at(whole.start) - song.seconds_at(4 * TICKS))


def test_excerpts_of_excerpts_remember_where_they_began() -> None:
    song = band(beats=48)
    assert cut(cut(song, 8 * TICKS, 10), 4 * TICKS, 5).start_seconds == 12 * BEAT_SECONDS


def test_revoicing_changes_one_timbre_and_no_note() -> None:
    song = band(beats=48)
    sung = revoice(song, identity(song), seed=1)
    changed = [(old, new) for old, new in zip(song.parts, sung.parts, strict=True) if old != new]
    ((old, new),) = changed
    assert new.program in CHOIRS
    assert new.revoiced_from == old.program in (81, 48)
    assert new.strokes == old.strokes
    assert identity(sung) == identity(song)
    assert has_voice(sung)
    assert not has_voice(song)


def test_the_last_other_instrument_is_never_made_to_sing() -> None:
    trio = read_song(midi(Line(0, 33, walk(36, 48)), Line(1, 81, walk(60, 48)), Line(DRUMS, 0, beat(48))), "S", "c")
    assert candidates(trio) == []


def test_notes_too_short_for_a_choir_are_left_to_the_lead() -> None:
    fast = [(b / 8, 0.1, 60 + b % 9) for b in range(80)]
    song = read_song(midi(Line(0, 33, walk(36, 48)), Line(1, 81, fast), Line(2, 29, walk(60, 48))), "S", "c")
    assert candidates(song) == []


@pytest.mark.parametrize(("share", "singing"), [(0, 0), (0.5, 3), (0.6, 4), (1, 6)])
def test_as_many_songs_sing_as_were_asked_for(share: float, singing: int) -> None:
    songs = [(f"song {n}", band(beats=48)) for n in range(6)]
    assert sum(has_voice(song) for song in give_voices(songs, share, seed=1)) == singing


def test_songs_with_a_voice_of_their_own_count_and_stay_as_they_are() -> None:
    own = band(beats=48, lead=52)
    songs = [("own", own), *((f"song {n}", band(beats=48)) for n in range(3))]
    voiced = give_voices(songs, 0.5, seed=1)
    assert voiced[0] is own
    assert sum(has_voice(song) for song in voiced) == 2


def _wheel(value: int) -> mido.Message:
    return mido.Message("pitchwheel", channel=0, pitch=value)


def _tempo(value: int) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=value)
