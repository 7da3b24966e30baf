"""Reading other people's MIDI files, writing our own."""

import struct
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mido import Message, MetaMessage

from music import drum, note
from stemscribe.errors import DataError
from stemscribe.midi import read_midi, write_midi
from stemscribe.notes import Note, clean_notes

PIANO, BASS = 0, 33
BEAT = 480  # ticks; half a second at the tempo that holds until another is set


def on(pitch: int, wait: int = 0, channel: int = 0) -> Message:
    return Message("note_on", note=pitch, velocity=90, time=wait, channel=channel)


def off(pitch: int, wait: int = 0, channel: int = 0) -> Message:
    return Message("note_off", note=pitch, time=wait, channel=channel)


def control(number: int, value: int, wait: int = 0) -> Message:
    return Message("control_change", control=number, value=value, time=wait)


def voice(program: int, wait: int = 0, channel: int = 0) -> Message:
    return Message("program_change", program=program, time=wait, channel=channel)


def tempo(beats_a_minute: float, wait: int = 0) -> MetaMessage:
    return MetaMessage("set_tempo", tempo=round(60e6 / beats_a_minute), time=wait)


@pytest.fixture
def song(tmp_path: Path):
    """Writes tracks of messages to a file and says where it is."""

    def build(*tracks: list[Message | MetaMessage], kind: int = 1) -> Path:
        path = tmp_path / "song.mid"
        tracks_of_mido = [mido.MidiTrack(track) for track in tracks]
        mido.MidiFile(type=kind, ticks_per_beat=BEAT, tracks=tracks_of_mido).save(str(path))
        return path

    return build


def heard(notes: list[Note]) -> list[tuple[float, float, int, int]]:
    return [(round(n.onset, 4), round(n.offset, 4), n.pitch, n.program) for n in notes]


def test_one_beat_at_the_default_tempo_is_half_a_second(song):
    path = song([on(60), off(60, BEAT)], kind=0)
    assert read_midi(path) == [Note(0.0, 0.5, 60, PIANO, velocity=90)]


def test_a_tempo_change_in_another_track_bends_a_sounding_note(song):
    path = song([tempo(120), tempo(60, 2 * BEAT)], [on(60), off(60, 4 * BEAT)])
    assert heard(read_midi(path)) == [(0.0, 3.0, 60, PIANO)]


def test_note_on_without_velocity_is_an_end(song):
    path = song([on(60), Message("note_on", note=60, velocity=0, time=BEAT), on(62), off(62, BEAT)])
    assert heard(read_midi(path)) == [(0.0, 0.5, 60, PIANO), (0.5, 1.0, 62, PIANO)]


def test_a_note_off_ends_the_oldest_note_of_its_key(song):
    path = song([on(60), on(60, BEAT), off(60, BEAT), off(60, BEAT)])
    # Left as they are, the first would sound until 1.0; the key being struck again at 0.5 ends it there.
    assert heard(read_midi(path)) == [(0.0, 0.5, 60, PIANO), (0.5, 1.5, 60, PIANO)]


def test_programs_change_in_the_middle_of_a_track(song):
    path = song([voice(BASS), on(40), off(40, BEAT), voice(48), on(60), off(60, BEAT)])
    assert [n.program for n in read_midi(path)] == [BASS, 48]


def test_tracks_that_share_a_channel_share_its_program(song):
    path = song([voice(BASS)], [on(40, BEAT), off(40, BEAT)])
    assert [n.program for n in read_midi(path)] == [BASS]


def test_ports_keep_equal_channels_apart(song):
    other = [MetaMessage("midi_port", port=1), voice(BASS), on(40), off(40, BEAT)]
    assert {(n.pitch, n.program) for n in read_midi(song([on(60), off(60, BEAT)], other))} == {(60, PIANO), (40, BASS)}


def test_channel_ten_is_drums(song):
    path = song([on(36, channel=9), off(36, 5, channel=9), on(60), off(60, BEAT)])
    assert heard(read_midi(path)) == [(0.0, 0.01, 36, 128), (0.0052, 0.5052, 60, PIANO)]


def test_the_caller_may_know_the_instrument_better(song):
    path = song([on(36, channel=9), off(36, BEAT, channel=9)])
    assert heard(read_midi(path, program=BASS)) == [(0.0, 0.5, 36, BASS)]
    assert heard(read_midi(path, is_drum=False)) == [(0.0, 0.5, 36, PIANO)]
    path = song([on(36), off(36, BEAT)])
    assert heard(read_midi(path, is_drum=True)) == [(0.0, 0.01, 36, 128)]
    assert heard(read_midi(path, program=128)) == [(0.0, 0.01, 36, 128)]


def test_the_pedal_holds_a_note_until_it_is_lifted(song):
    path = song([control(64, 127), on(60), off(60, BEAT), control(64, 0, BEAT)])
    assert heard(read_midi(path)) == [(0.0, 1.0, 60, PIANO)]


def test_a_key_struck_again_under_the_pedal_sounds_anew(song):
    path = song([control(64, 127), on(60), off(60, BEAT), on(60, BEAT), off(60, BEAT), control(64, 0, BEAT)])
    assert heard(read_midi(path)) == [(0.0, 1.0, 60, PIANO), (1.0, 2.0, 60, PIANO)]


def test_all_notes_off_is_obeyed(song):
    path = song([on(60), control(123, 0, BEAT), on(62, BEAT), off(62, BEAT)])
    assert heard(read_midi(path)) == [(0.0, 0.5, 60, PIANO), (1.0, 1.5, 62, PIANO)]


def test_a_note_that_nobody_ends_lasts_until_the_last_event(song):
    path = song([on(60), on(62), off(62, 2 * BEAT)])
    assert heard(read_midi(path)) == [(0.0, 1.0, 60, PIANO), (0.0, 1.0, 62, PIANO)]


def test_a_drum_needs_no_length(song):
    assert heard(read_midi(song([on(38, channel=9), off(38, channel=9)]))) == [(0.0, 0.01, 38, 128)]


def test_running_status_is_understood(tmp_path: Path):
    # 90 3C 64 | 60 3C 00: the second event leaves out its status byte.
    track = bytes.fromhex("00 90 3C 64 60 3C 00 00 FF 2F 00")
    path = tmp_path / "running.mid"
    path.write_bytes(b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track)
    assert heard(read_midi(path)) == [(0.0, 0.5, 60, PIANO)]


def test_a_file_without_notes_is_silence(song):
    assert read_midi(song([tempo(100)])) == []


def header(kind: int = 1, tracks: int = 1, division: int = 480) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, kind, tracks, division)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no readable MIDI"),
        (b"RIFF....WAVE", "no readable MIDI"),
        (header(), "no readable MIDI"),
        (header(tracks=60000), "no readable MIDI"),
        (header() + b"MTrk" + struct.pack(">I", 1000) + b"\x00\x90\x3c", "no readable MIDI"),
        (header(kind=2, tracks=0), "type 2"),
        (header(tracks=0, division=0), "no ticks"),
        (header(tracks=0, division=0xE728), "no ticks"),
        (bytes(5 * 2**20), "no song needs"),
    ],
    ids=["empty", "wave", "no track", "many tracks", "cut", "type 2", "no ticks", "film", "huge"],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes, complaint: str):
    path = tmp_path / "broken.mid"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as refusal:
        read_midi(path)
    assert "broken.mid" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_one_line(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.mid"):
        read_midi(tmp_path / "nowhere.mid")


def test_a_folder_is_not_called_a_broken_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory; check the path"):
        read_midi(tmp_path)


def test_a_song_of_days_is_refused(song):
    with pytest.raises(DataError, match="hours"):
        read_midi(song([tempo(4), on(60), off(60, 2_000_000)]))


def test_an_infinite_tempo_is_refused(song):
    with pytest.raises(DataError, match="infinite tempo"):
        read_midi(song([MetaMessage("set_tempo", tempo=0), on(60), off(60, BEAT)]))


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.mid"
    write_midi(path, [note("C4", 0.1 * k, 0.1 * k + 0.3, program=k) for k in range(5)])
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        notes = read_midi(path)
    except DataError:
        return
    assert notes == clean_notes(notes)


# Writing.


def test_written_notes_come_back(tmp_path: Path):
    tune = [note("E2", 0.5, 1.0, program=BASS), note("C4", 0.5, 2.0), drum("kick", 0.5), drum("snare", 1.0)]
    write_midi(tmp_path / "tune.mid", tune)
    assert heard(read_midi(tmp_path / "tune.mid")) == heard(clean_notes(tune))


def test_every_class_at_once_comes_back(tmp_path: Path):
    # 96 programs do not fit 15 channels: ports carry the rest.
    tune = [Note(0.1 * program, 0.1 * program + 0.5, 60, program) for program in range(96)]
    write_midi(tmp_path / "tune.mid", tune)
    assert heard(read_midi(tmp_path / "tune.mid")) == heard(tune)


def test_singing_is_written_as_sax_and_chorus_as_oohs(tmp_path: Path):
    write_midi(tmp_path / "tune.mid", [note("C4", 0.0, 1.0, program=100), note("E4", 0.0, 1.0, program=101)])
    assert {(n.pitch, n.program) for n in read_midi(tmp_path / "tune.mid")} == {(60, 65), (64, 53)}


def test_a_track_for_each_program_and_drums_on_channel_ten(tmp_path: Path):
    write_midi(tmp_path / "tune.mid", [note("E2", 0.0, 1.0, program=BASS), drum("kick", 0.0)])
    file = mido.MidiFile(tmp_path / "tune.mid")
    assert [track.name for track in file.tracks] == ["", "Electric Bass", "Drums"]
    assert {message.channel for message in file.tracks[2] if message.type == "note_on"} == {9}


def test_equal_notes_make_equal_files(tmp_path: Path):
    tune = [note("C4", 0.5, 2.0), note("E2", 0.5, 1.0, program=BASS)]
    write_midi(tmp_path / "a.mid", tune)
    write_midi(tmp_path / "b.mid", tune[::-1])
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()


def test_a_note_before_the_beginning_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="MIDI cannot hold"):
        write_midi(tmp_path / "tune.mid", [note("C4", -1.0, 1.0)])
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0.02, 5), st.integers(0, 127), st.integers(0, 95)), max_size=20))
def test_onsets_and_offsets_are_kept_within_a_millisecond(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "times.mid"
    # One note a key, so that no trimming is involved.
    unique = {(program, pitch): Note(onset, onset + length, pitch, program) for onset, length, pitch, program in rows}
    write_midi(path, unique.values())
    read = read_midi(path)
    assert len(read) == len(unique)
    for one in read:
        original = unique[one.program, one.pitch]
        assert abs(one.onset - original.onset) < 0.001
        assert abs(one.offset - original.offset) < 0.001
