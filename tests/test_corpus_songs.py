"""Songs as parts: what of a MIDI file is kept, and how a WAD gives it away."""

import struct

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from band import BEAT_SECONDS, DRUMS, TICKS, Line, band, beat, midi, walk
from stemscribe.corpora.songs import Stroke, is_band, read_song, separate_strokes
from stemscribe.corpora.wad import midi_lumps, read_lumps
from stemscribe.errors import DataError


def wad(lumps: dict[str, bytes]) -> bytes:
    """A WAD with these lumps and a directory at its end."""
    body, entries, place = b"", b"", 12
    for name, content in lumps.items():
        entries += struct.pack("<ii8s", place + len(body), len(content), name.encode())
        body += content
    return struct.pack("<4sii", b"IWAD", len(lumps), place + len(body)) + body + entries


def test_a_wad_gives_its_midi_lumps_in_order() -> None:
    tune = midi(Line(0, 0, [(0, 1, 60)]))
    content = wad({"PLAYPAL": b"colours", "D_RUNNIN": tune, "MARKER": b"", "D_E1M1": tune})
    assert [lump.name for lump in read_lumps(content, "x.wad")] == ["PLAYPAL", "D_RUNNIN", "MARKER", "D_E1M1"]
    assert [(lump.name, lump.content == tune) for lump in midi_lumps(content, "x.wad")] == [
        ("D_RUNNIN", True),
        ("D_E1M1", True),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"IWAD", "only 4 bytes"),
        (b"ZIP!" + bytes(20), "begins with"),
        (struct.pack("<4sii", b"IWAD", 5, 12), "directory lies outside"),
        (struct.pack("<4sii", b"IWAD", -1, 12), "directory lies outside"),
        (struct.pack("<4sii", b"PWAD", 1, 12) + struct.pack("<ii8s", 0, 999, b"D_X"), "lump 0 lies outside"),
        (struct.pack("<4sii", b"PWAD", 1, 12) + struct.pack("<ii8s", -8, 4, b"D_X"), "lump 0 lies outside"),
    ],
)
def test_a_broken_wad_is_named_in_one_line(content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        list(read_lumps(content, "x.wad"))
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_crash_the_wad_reader(content: bytes) -> None:
    try:
        for lump in read_lumps(b"IWAD" + content, "x.wad"):
            assert lump.content in content + b"IWAD" + content
    except DataError:
        pass


def test_each_program_of_a_channel_is_a_part_and_the_drum_kit_comes_last() -> None:
    change = (4, mido.Message("program_change", channel=2, program=48))
    song = read_song(midi(Line(DRUMS, 16, beat(8)), Line(2, 81, walk(60, 8), [change]), Line(1, 33, walk(36, 8))), "S", "c")
    assert [(part.channel, part.program, len(part.strokes)) for part in song.parts] == [
        (1, 33, 8),
        (2, 48, 4),
        (2, 81, 4),
        (9, 128, 24),
    ]
    assert song.parts[-1].kit == 16
    assert song.title == "A Song"


def test_a_key_is_never_struck_again_while_it_sounds() -> None:
    song = read_song(midi(Line(0, 0, [(0, 4, 60), (2, 1, 60), (2, 2, 64), (2, 1, 64)])), "S", "c")
    assert [(s.start / TICKS, s.end / TICKS, s.pitch) for s in song.parts[0].strokes] == [(0, 2, 60), (2, 4, 60), (2, 4, 64)]


@given(st.lists(st.builds(Stroke, st.integers(0, 50), st.integers(0, 60), st.integers(60, 62), st.integers(1, 127))))
def test_separated_strokes_never_overlap_and_lose_no_attack(strokes: list[Stroke]) -> None:
    separated = separate_strokes(strokes)
    for one in separated:
        assert one.start < one.end
        assert not any(one.pitch == other.pitch and one.start < other.start < one.end for other in separated)
    assert {(s.start, s.pitch) for s in separated} == {(s.start, s.pitch) for s in strokes if s.end > s.start}
    assert separate_strokes(separated) == separated


def test_pitch_bends_and_their_range_stay_and_pedals_go() -> None:
    wide = [(0, mido.Message("control_change", channel=0, control=c, value=v)) for c, v in ((101, 0), (100, 0), (6, 12))]
    pedal = [(0, mido.Message("control_change", channel=0, control=64, value=127))]
    bend = [(1, mido.Message("pitchwheel", channel=0, pitch=4096))]
    part = read_song(midi(Line(0, 30, [(0, 2, 60)], [*wide, *pedal, *bend])), "S", "c").parts[0]
    assert part.bends == ((TICKS, 4096),)
    assert part.bend_range == 12
    assert part.strokes == (Stroke(0, 2 * TICKS, 60, 90),)  # released where the key is, pedal or not


def test_drums_that_no_general_midi_kit_has_are_left_out() -> None:
    song = read_song(midi(Line(DRUMS, 0, [(0, 1, 36), (1, 1, 27), (2, 1, 87)])), "S", "c")
    assert [stroke.pitch for stroke in song.parts[0].strokes] == [36]


def test_time_follows_the_tempo_map_there_and_back() -> None:
    slower = (4, mido.MetaMessage("set_tempo", tempo=1_000_000))
    song = read_song(midi(Line(0, 0, [(0, 8, 60)], [slower])), "S", "c")
    assert song.seconds == pytest.approx(4 * 0.5 + 4 * 1.0)
    for tick in (0, 100, 4 * TICKS, 5 * TICKS, 700):
        assert song.tick_at(song.seconds_at(tick)) == tick


def test_a_band_has_drums_a_bass_and_two_more_and_takes_its_time() -> None:
    assert is_band(band(beats=48))
    assert not is_band(band(beats=24))  # 12 s
    without = {kind: [n for n in (0, 1, 2, 3, DRUMS) if n != kind] for kind in (0, DRUMS)}
    lines = {0: Line(0, 33, walk(36, 48)), DRUMS: Line(DRUMS, 0, beat(48))}
    lines |= {n: Line(n, 80 + n, walk(60 + n, 48)) for n in (1, 2, 3)}
    for kept in without.values():
        assert not is_band(read_song(midi(*(lines[n] for n in kept)), "S", "c"))
    effects = {n: Line(n, 96 + n, walk(60, 48)) for n in (1, 2, 3)}  # named in the metadata, never rendered
    assert not is_band(read_song(midi(lines[0], lines[DRUMS], *effects.values()), "S", "c"))


ODD_KEY = bytes.fromhex("4d546864 00000006 000000010060 4d54726b 0000000a 00ff5902ffff 00ff2f00")  # one flat, mode 255


@pytest.mark.parametrize("content", [b"", b"MThd", b"MThd" + bytes(10), b"not midi at all", band(beats=24).midi[:60], ODD_KEY])
def test_broken_midi_is_named_in_one_line(content: bytes) -> None:
    with pytest.raises(DataError, match=r"D_BAD in x\.wad is no readable MIDI file") as caught:
        read_song(content, "D_BAD", "x.wad")
    assert "\n" not in str(caught.value)


def test_a_song_of_hours_is_refused() -> None:
    with pytest.raises(DataError, match="more than an hour"):
        read_song(midi(Line(0, 0, [(0, 1, 60), (9000, 1, 60)])), "S", "c")
    assert read_song(midi(Line(0, 0, [(0, 1, 60)])), "S", "c").seconds == BEAT_SECONDS
