"""The verb `score`: what two MIDI files have in common."""

import pytest

from music import drum, note
from stemscribe.errors import DataError, UsageError
from stemscribe.midi import write_midi
from stemscribe.scoring.files import as_json, as_text, score_files

TUNE = [note("C4", 0.0, 0.5), note("E4", 0.5, 1.0), note("G4", 1.0, 2.0)]
GROOVE = [drum("kick", 0.0), drum("snare", 0.5)]


@pytest.fixture
def midi(tmp_path):
    def write(name, notes):
        write_midi(tmp_path / name, notes)
        return tmp_path / name

    return write


def test_a_file_scored_against_itself_is_perfect(midi):
    path = midi("tune.mid", TUNE)
    assert {name: counts.f1 for name, counts in score_files(path, path).items()} == {
        "onset": 1.0,
        "onset_offset": 1.0,
        "frame": 1.0,
        "pitch_class": 1.0,
    }


def test_drums_do_not_count_among_pitched_notes_nor_the_other_way_round(midi):
    reference, estimate = midi("true.mid", TUNE + GROOVE), midi("heard.mid", TUNE[:2] + GROOVE[:1])
    assert score_files(reference, estimate)["onset"].recall == pytest.approx(2 / 3)
    assert score_files(reference, estimate, drums=True)["onset"].recall == 0.5


def test_a_score_reads_well_as_text_and_as_json(midi):
    card = score_files(midi("true.mid", TUNE), midi("heard.mid", TUNE[:2]))
    assert as_json(card)["onset"] == {
        "f1": 0.8,
        "precision": 1.0,
        "recall": 0.6667,
        "matched": 2,
        "estimated": 2,
        "reference": 3,
    }
    lines = as_text(card).splitlines()
    assert lines[0].split() == ["F1", "precision", "recall", "right", "reported", "true"]
    assert lines[1].split() == ["onset", "0.800", "1.000", "0.667", "2", "2", "3"]
    assert len({len(line) for line in lines}) == 1


def test_nothing_to_score_is_said_with_the_way_out(midi):
    with pytest.raises(UsageError, match="--drums"):
        score_files(midi("groove.mid", GROOVE), midi("tune.mid", TUNE))


def test_no_midi_is_an_error(midi, tmp_path):
    (tmp_path / "text.mid").write_text("do re mi")
    with pytest.raises(DataError, match=r"text\.mid"):
        score_files(midi("tune.mid", TUNE), tmp_path / "text.mid")
