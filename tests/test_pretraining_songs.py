"""What the base hears: songs that the demo keeps out of training never, the others in several casts and timbres."""

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from band import DRUMS, Line, band, midi, walk
from stemscribe.config import DemoParams
from stemscribe.corpora.identity import identity
from stemscribe.corpora.planning import plan_tracks
from stemscribe.corpora.revoice import has_voice
from stemscribe.corpora.songs import Song, read_song
from stemscribe.corpora.wad import ENTRY, HEADER
from stemscribe.errors import DataError, UsageError
from stemscribe.pretraining import corpus, debian, soundfonts
from stemscribe.pretraining.casting import Dice, equip, recast, sing
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.pretraining.songbooks import Songbook, get_songs, read_songbooks
from stemscribe.pretraining.takes import teaches, training_takes, validation_takes
from stemscribe.vocabulary import VOICE_LIKE

PRETRAIN = Path(__file__).parents[1] / "pretrain"
PARAMS = replace(load_pretrain_params(PRETRAIN / "params.yaml").songs, seconds=12)
FONTS = soundfonts.read_soundfonts(PRETRAIN / "soundfonts.yaml")
PATHS = {name: Path(f"{name}.sf2") for name in PARAMS.soundfonts}
DEMO = DemoParams(songs=5, seconds=20, validation=1, test=2, voiced_share=0)
TUNES = [band(lowest, name=f"SONG{lowest}") for lowest in range(60, 67)]
DUET = read_song(midi(Line(0, 0, walk(60, 48)), Line(1, 33, walk(40, 48))), "DUET", "tests")
SOLO = read_song(midi(Line(0, 0, walk(60, 48))), "SOLO", "tests")


def dice(number: int = 0) -> Dice:
    return Dice(1, f"song take {number}")


# Which songs


def test_a_duet_teaches_and_a_solo_or_a_jingle_does_not() -> None:
    assert teaches(DUET)
    assert not teaches(SOLO)
    assert not teaches(band(70, beats=8))


@pytest.mark.parametrize("seed", range(4))
def test_songs_reserved_by_the_demo_are_left_out_wherever_they_come_from(seed: int) -> None:
    again = [band(lowest, lead=56, name="ELSEWHERE") for lowest in (60, 63, 66)]  # arranged anew
    songs = corpus.songs_to_hear({"wheel": TUNES, "more": [*again, DUET]}, DEMO, seed)
    taught = {identity(song) for each in songs.train.values() for song in each}
    validating = {identity(song) for song in songs.validation}
    assert (len(songs.reserved), len(validating)) == (DEMO.test, DEMO.validation)
    assert not taught & (validating | set(songs.reserved))
    assert len(taught) == len(TUNES) - DEMO.test - DEMO.validation + 1
    assert corpus.audit(songs)["duplicates_across_splits"] == []


def test_a_song_that_comes_twice_is_taught_once_and_belongs_to_its_first_source() -> None:
    more = [band(60, name="AGAIN"), DUET, SOLO]
    songs = corpus.songs_to_hear({"wheel": TUNES, "more": more}, DEMO, 1)
    assert [song.name for song in songs.train["more"]] == ["DUET"]
    assert corpus.audit(songs)["training_songs_by_source"] == {"wheel": 4, "more": 1}


def test_a_leak_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(songs: Iterable[Song], kept_out: Iterable[Song]) -> list[Song]:
        return list(songs)

    monkeypatch.setattr(corpus, "unrelated", careless)
    with pytest.raises(DataError, match="also one of the demo's validation or test songs"):
        corpus.songs_to_hear({"wheel": TUNES}, DEMO, 1)


# Who plays


def test_voices_sing_in_most_takes_and_differ_from_take_to_take() -> None:
    casts = [sing(TUNES[0], dice(number), 0.85, 2) for number in range(40)]
    assert 28 <= sum(map(has_voice, casts)) <= 39
    programs = Counter(part.program for cast in casts for part in cast.parts if part.program in VOICE_LIKE)
    assert set(programs) == VOICE_LIKE
    assert max(sum(part.program in VOICE_LIKE for part in cast.parts) for cast in casts) == 2
    assert all(any(part.program in (29, 48, 81) for part in cast.parts) for cast in casts)  # somebody else plays too
    for cast in casts:
        assert identity(cast) == identity(TUNES[0])


def test_nobody_sings_where_nobody_is_asked_to() -> None:
    assert sing(TUNES[0], dice(), 0, 2) == TUNES[0]


def test_a_choir_may_be_another_choir() -> None:
    song = band(60, lead=52)
    heard = {part.program for number in range(20) for part in sing(song, dice(number), 0, 1).parts if part.channel == 1}
    assert heard == VOICE_LIKE


def test_instruments_change_within_their_family() -> None:
    for number in range(10):
        played = recast(TUNES[0], dice(number), 1)
        for old, new in zip(TUNES[0].parts, played.parts, strict=True):
            assert new.program // 8 == old.program // 8
            assert new.program not in VOICE_LIKE
            assert new.strokes == old.strokes
            assert new.revoiced_from in (None, old.program)
    assert recast(TUNES[0], dice(), 0) == TUNES[0]


# In which timbres


def test_a_program_that_a_soundfont_lacks_is_played_by_another() -> None:
    whistle = read_song(midi(Line(0, 78, walk(60, 48)), Line(1, 0, walk(40, 48))), "S", "c")
    for number in range(20):
        _, names = equip(whistle, dice(number), {"timgm6mb": 10, "a320u": 1, "redzeppelin": 10}, FONTS)
        assert names[0] == "a320u"
        assert "redzeppelin" not in names
    with pytest.raises(DataError, match="can play program 78"):
        equip(whistle, dice(), {"timgm6mb": 1}, FONTS)


def test_a_drum_kit_plays_its_nearest_drum_and_says_so() -> None:
    hits = [(b, 0.1, (36, 38, 35, 50)[b % 4]) for b in range(40)] + [(1.5, 0.1, 81)]
    song = read_song(midi(Line(0, 0, walk(60, 48)), Line(1, 33, walk(40, 48)), Line(DRUMS, 25, hits)), "S", "c")
    played, names = equip(song, dice(), {"blackpearl": 1e9, "timgm6mb": 1}, FONTS)
    assert names == ["timgm6mb", "timgm6mb", "blackpearl"]
    kit = played.parts[-1]
    assert kit.kit == 0
    assert Counter(stroke.pitch for stroke in kit.strokes) == {36: 20, 38: 10, 47: 10}


def test_a_kit_that_lacks_much_is_not_drawn() -> None:
    bongos = read_song(midi(Line(0, 0, walk(60, 48)), Line(DRUMS, 0, [(b, 0.1, 60 + b % 3) for b in range(40)])), "S", "c")
    assert equip(bongos, dice(), {"blackpearl": 1e9, "timgm6mb": 1}, FONTS)[1] == ["timgm6mb", "timgm6mb"]


# Takes


def test_takes_are_the_same_for_ever_and_differ_from_each_other() -> None:
    songs = [band(60, beats=96), DUET]
    once, again = (training_takes(songs, PARAMS, FONTS, PATHS, 1) for _ in range(2))
    assert once == again
    assert [track.track for track in once] == [f"Track{number:05d}" for number in range(1, 2 * PARAMS.takes + 1)]
    assert {track.split for track in once} == {"train"}
    first, second = once[:2]
    assert {track.identity for track in once[: PARAMS.takes]} == {identity(songs[0])}
    assert abs(first.song.start_seconds - second.song.start_seconds) >= PARAMS.seconds / 2
    assert first.soundfonts != second.soundfonts
    assert all(len(track.soundfonts) == len(track.song.parts) for track in once)


def test_adding_a_song_changes_no_other() -> None:
    alone = training_takes([DUET], PARAMS, FONTS, PATHS, 1)
    beside = training_takes([TUNES[0], DUET], PARAMS, FONTS, PATHS, 1)[PARAMS.takes :]
    assert [replace(track, track="") for track in alone] == [replace(track, track="") for track in beside]


def test_validation_is_the_demo_and_the_same_music_in_mixed_timbres() -> None:
    demo = plan_tracks({"validation": TUNES[:2]}, PARAMS.seconds, 0.5, 1)
    takes = validation_takes(TUNES[:2], 0.5, PARAMS, FONTS, PATHS, Path("demo.sf2"), 1)
    assert [track.song for track in takes[:2]] == [track.song for track in demo]
    assert {path for track in takes[:2] for path in track.soundfonts} == {Path("demo.sf2")}
    assert len({path for track in takes[2:] for path in track.soundfonts}) > 1
    assert {track.split for track in takes} == {"validation"}
    assert len({track.track for track in takes}) == 4


# Where songs and soundfonts come from


def test_what_is_kept_for_tests_on_unheard_songs_and_timbres_is_not_taught() -> None:
    books = read_songbooks(PRETRAIN / "songs.yaml")
    named = [f"{name} {each.package} {each.file}" for name, each in FONTS.items()]
    named += [f"{name} {each.package}" for name, each in books.items()]
    assert set(PARAMS.soundfonts) <= set(FONTS)
    assert set(PARAMS.songbooks) <= set(books)
    assert not any(kept in " ".join(named).lower() for kept in ("fluid", "musescore", "gs.sf2", "simutrans"))


def test_an_unknown_soundfont_or_way_to_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no soundfont 'fluid' in soundfonts\.yaml; soundfonts are timgm6mb"):
        soundfonts.get_soundfont("fluid", FONTS)
    with pytest.raises(UsageError, match="way is 'dab'; give package or deb"):
        soundfonts.get_soundfont("gmbank", {"gmbank": replace(FONTS["gmbank"], way="dab")})


def test_a_soundfont_that_is_there_and_is_another_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMSCRIBE_DOWNLOADS_DIR", str(tmp_path))
    monkeypatch.setattr(soundfonts, "_from_debian", lambda source, target: target.write_bytes(b"another"))
    (tmp_path / "sf_GMbank.sf2").write_bytes(b"old")
    with pytest.raises(DataError, match="is not the file described"):
        soundfonts.get_soundfont("gmbank", FONTS)
    assert (tmp_path / "sf_GMbank.sf2").read_bytes() == b"old"


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Songbook]:
    """A songbook as apt would bring it: one MIDI file, and a WAD with another."""
    monkeypatch.setenv("STEMSCRIBE_DOWNLOADS_DIR", str(tmp_path / "downloads"))
    tune = midi(Line(0, 0, walk(50, 8)))
    wad = HEADER.pack(b"PWAD", 1, 12 + len(tune)) + tune + ENTRY.pack(12, len(tune), b"D_E1M1")

    def download(package: str, folder: Path, wanted: str) -> Path:
        (folder / wanted).write_bytes(package.encode())
        return folder / wanted

    def unpack(package: Path, folder: Path) -> None:
        (folder / "tune.mid").write_bytes(midi(Line(0, 0, walk(60, 8))))
        (folder / "game.wad").write_bytes(wad)

    monkeypatch.setattr(debian, "download", download)
    monkeypatch.setattr(debian, "unpack", unpack)
    known = "d8eef3debf09751be63d75fcf92f1167c599f8e19a2aab6e9f25aa0b3bd9ccfb"
    return {"game": Songbook("game=1", "game_1_all.deb", known, ("*.mid", "*.wad"), "CC0")}


def test_songs_come_out_of_files_and_wads(books: Mapping[str, Songbook]) -> None:
    assert [(song.name, song.collection) for song in get_songs("game", books)] == [("tune", "game"), ("D_E1M1", "game.wad")]


def test_another_package_or_one_without_songs_is_refused(books: Mapping[str, Songbook]) -> None:
    with pytest.raises(UsageError, match=r"no songbook 'gane' in songs\.yaml; songbooks are game"):
        get_songs("gane", books)
    with pytest.raises(DataError, match=r"game_1_all\.deb is not the package described"):
        get_songs("game", {"game": replace(books["game"], sha256="0" * 64)})
    with pytest.raises(DataError, match=r"game_1_all\.deb holds no songs at \*\.xm"):
        get_songs("game", {"game": replace(books["game"], songs=("*.xm",))})


@pytest.mark.parametrize(
    "failure", [FileNotFoundError("apt-get"), subprocess.CalledProcessError(100, "apt-get", b"", b"E: no")]
)
def test_without_apt_there_is_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def run(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=r"cannot get game=1 with apt-get .*; put game_1_all\.deb into") as caught:
        debian.download("game=1", tmp_path, "game_1_all.deb")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"with dpkg-deb|there is no dpkg-deb; install dpkg"):
        debian.unpack(tmp_path / "game_1_all.deb", tmp_path)
