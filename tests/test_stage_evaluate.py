"""Evaluating says what was predicted, no better and no worse, and says in one line what is missing."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from scored_project import PROGRAMS, SECONDS, TRACKS, WITHOUT_VOICE, choose_head, heard, save_predictions, tune, write_project
from stemscribe.config import load_params
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import Note
from stemscribe.scoring.conditions import read_stem_test, turned
from stemscribe.scoring.silence import SEGMENT
from stemscribe.scoring.tables import SILENCE_COLUMNS
from stemscribe.stages import STEMS, evaluate, poc, run_stage

PITCHED_KEYS = [
    "onset_f1",
    "onset_offset_f1",
    "frame_f1",
    "precision",
    "recall",
    "onset_f1_ci",
    "delta_vs_base",
    "false_notes_per_minute",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def metrics(stem):
    evaluate.main([stem])
    with open(f"metrics/{stem}.json") as stream:
        return json.load(stream)


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def condition(stem, name, head="tokens"):
    rows = table(f"plots/{stem}/conditions.csv")
    (row,) = (row for row in rows if (row["condition"], row["head"]) == (name, head))
    return row


def test_the_headline_has_the_eight_numbers_in_their_order(project):
    assert list(metrics("bass")) == PITCHED_KEYS


def test_drums_have_no_offset_score(project):
    assert list(metrics("drums")) == [key for key in PITCHED_KEYS if key != "onset_offset_f1"]


def test_numbers_follow_from_the_notes_left_out(project):
    found = metrics("bass")  # of 32 notes, the specialist finds 24 and the base 16, and neither invents any
    assert found["precision"] == 1.0
    assert found["recall"] == 0.75
    assert found["onset_f1"] == round(2 * 24 / (24 + 32), 4)
    assert found["onset_offset_f1"] == found["onset_f1"]
    assert found["delta_vs_base"] == pytest.approx(2 * 24 / 56 - 2 * 16 / 48, abs=1e-4)
    assert found["onset_f1_ci"] == 0.0  # all tracks alike
    assert found["false_notes_per_minute"] == 0.0


def test_every_condition_has_a_row_and_chance_has_one_for_context(project):
    metrics("bass")
    rows = {row["condition"]: row for row in table("plots/bass/conditions.csv") if row["head"] == "tokens"}
    assert list(rows) == ["base_mix", "base_stem", "specialist_stem", "specialist_separated", "shuffled_time"]
    f1 = {name: float(row["onset_f1"]) for name, row in rows.items()}
    assert f1["shuffled_time"] < 0.3 < f1["base_mix"] < f1["base_stem"] < f1["specialist_separated"] < f1["specialist_stem"]
    assert rows["base_mix"]["delta_vs_base"] == ""
    assert rows["specialist_stem"]["improved_tracks"] == "4"


def test_the_mix_is_scored_by_the_stems_instruments_alone(project):
    guitar = [Note(0.2 + place / 8, 0.3 + place / 8, 40, 26) for place in range(30)]
    bass = {track: heard(tune("bass", number), 2) for number, track in enumerate(TRACKS)}
    save_predictions(project, "base/mix", {track: notes + guitar for track, notes in bass.items()})
    metrics("bass")
    assert float(condition("bass", "base_mix")["precision"]) == 1.0


def test_a_track_without_the_stem_counts_for_false_notes_only(project):
    separated = {track: heard(tune("vocals", number), 4) for number, track in enumerate(TRACKS)}
    quiet = metrics("vocals")
    separated[WITHOUT_VOICE] = [Note(1.0, 2.0, 60, 52), Note(3.0, 4.0, 62, 52)]
    save_predictions(project, "vocals/separated", separated)
    noisy = metrics("vocals")
    assert noisy["onset_f1"] == quiet["onset_f1"]
    assert WITHOUT_VOICE not in {row["track"] for row in table("plots/vocals/tracks.csv")}
    silence = {(row["track"], row["condition"]): row for row in table("plots/vocals/silence.csv") if row["head"] == "tokens"}
    assert float(silence[WITHOUT_VOICE, "specialist_separated"]["false_notes_per_minute"]) == pytest.approx(2 * 60 / SECONDS)
    silent = SECONDS + 3 * (SECONDS - 3 * SEGMENT)  # three tracks play in their first three segments
    assert noisy["false_notes_per_minute"] == pytest.approx(2 * 60 / silent, abs=1e-3)


def test_octave_errors_show_as_the_distance_to_the_pitch_class_score(project):
    octave_up = {
        track: [replace(note, pitch=note.pitch + 12) for note in heard(tune("bass", number), 0)]
        for number, track in enumerate(TRACKS)
    }
    save_predictions(project, "bass/stem", octave_up)
    metrics("bass")
    row = condition("bass", "specialist_stem")
    assert float(row["pitch_class_f1"]) == 1.0
    assert float(row["onset_f1"]) < 0.5


def test_parts_of_a_stem_have_rows_of_their_own(project):
    metrics("drums")
    metrics("other")
    drums = {(row["grouping"], row["class"]) for row in table("plots/drums/classes.csv")}
    assert {("general_midi", "Kick"), ("five", "Snare"), ("kick_snare_hihat", "Hi-hat")} <= drums
    other = {(row["head"], row["class"]) for row in table("plots/other/classes.csv")}
    assert other == {("tokens", "Piano"), ("frames", "Piano")}


def test_evaluating_twice_gives_the_same_bytes(project):
    def outcome():
        evaluate.main(["vocals"])
        files = sorted([*(project / "plots/vocals").iterdir(), project / "metrics/vocals.json"])
        return {file.name: file.read_bytes() for file in files}

    first = outcome()
    assert sorted(first) == ["classes.csv", "conditions.csv", "silence.csv", "tracks.csv", "vocals.json"]
    assert outcome() == first


def test_the_headline_speaks_of_the_head_that_the_parameters_name(project):
    by_tokens = metrics("bass")
    assert [row["head"] for row in table("plots/bass/conditions.csv")] == ["tokens"] * 5 + ["frames"] * 5
    choose_head(project, "frames")
    by_frames = metrics("bass")
    assert list(by_frames) == list(by_tokens)
    assert (by_tokens["onset_f1"], by_frames["onset_f1"]) == (round(2 * 24 / 56, 4), 1.0)
    for kind in ("tracks", "conditions", "classes", "silence"):
        heads = [row["head"] for row in table(f"plots/bass/{kind}.csv")]
        assert list(dict.fromkeys(heads)) == ["frames", "tokens"]
        assert heads.count("frames") == heads.count("tokens")


def test_the_heads_are_compared_track_by_track(project):
    metrics("bass")
    row = condition("bass", "specialist_separated", "frames")
    assert float(row["delta_vs_head"]) == pytest.approx(1 - 2 * 24 / 56, abs=1e-4)
    assert float(row["delta_vs_head_low"]) == float(row["delta_vs_head_high"])  # all tracks alike
    assert float(condition("bass", "base_mix", "frames")["delta_vs_head"]) == 0.0
    assert condition("bass", "specialist_separated")["delta_vs_head"] == ""  # the headline's own head


def test_a_gain_over_the_base_is_one_of_the_same_head(project):
    mix = {track: [] for track in TRACKS}
    save_predictions(project, "base/mix", mix, "frames")
    metrics("bass")
    assert float(condition("bass", "specialist_separated", "frames")["delta_vs_base"]) == 1.0
    assert float(condition("bass", "specialist_separated")["delta_vs_base"]) < 0.5


def test_a_model_without_a_frame_head_is_scored_by_its_tokens(project, capsys):
    for folder in project.glob("predictions/**/frames"):
        shutil.rmtree(folder)
    assert metrics("bass")["onset_f1"] == round(2 * 24 / 56, 4)
    assert {row["head"] for row in table("plots/bass/tracks.csv")} == {"tokens"}
    capsys.readouterr()
    choose_head(project, "frames")
    for stage, arguments in ((evaluate, ["bass"]), (poc, [])):
        assert run_stage(stage.main, arguments) == 2
        message = capsys.readouterr().err
        assert "by frames: the model has no such head; set predict.decode: tokens" in message
        assert message.count("\n") == 1


def test_a_head_that_read_only_some_of_the_recordings_is_an_error(project):
    shutil.rmtree(project / "predictions/bass/separated/frames")
    with pytest.raises(DataError, match=r"separated/frames.*dvc repro predict_bass"):
        evaluate.main(["bass"])


def test_on_the_mix_the_frame_head_tells_voices_from_the_instruments_on_their_channel(project):
    in_the_mix = {track: [Note(1.0, 1.5, 60, program) for program in (48, 52, 80, 85, 33)] for track in TRACKS}
    save_predictions(project, "base/mix", in_the_mix)

    def heard(stem, head):
        return [note.program for note in read_stem_test(stem, head).predictions["base_mix"][TRACKS[0]]]

    assert heard("vocals", "frames") == [52, 85]
    assert heard("other", "frames") == [48, 80]
    assert heard("vocals", "tokens") == [52]  # a lead voice has no class of its own


def test_a_stem_without_silence_leaves_a_table_with_a_header(project):
    path = project / "data/shards/bass/manifest.json"
    manifest = json.loads(path.read_text())
    for track in manifest["tracks"]:
        track["samples"] = 16000 * 2  # the first two of ten seconds, all of them played through
    path.write_text(json.dumps(manifest))
    metrics("bass")
    assert (project / "plots/bass/silence.csv").read_text() == ",".join(SILENCE_COLUMNS) + "\n"


def test_chance_is_the_same_notes_a_third_of_the_track_later():
    assert turned([Note(9.0, 9.5, 60)], 10.0) == [Note(pytest.approx(2.7), pytest.approx(3.2), 60)]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("predictions/bass/separated", "dvc repro predict_bass"),
        ("predictions/base/mix", "dvc repro predict_base"),
        ("data/shards/bass", "no shards at data/shards/bass"),
    ],
)
def test_what_is_missing_is_said_in_one_line(project, capsys, broken, words):
    shutil.rmtree(broken)
    assert run_stage(evaluate.main, ["bass"]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (project / "metrics").exists()
    assert not (project / "plots").exists()


def test_a_truncated_prediction_is_an_error(project):
    path = project / "predictions/bass/stem/tokens/notes.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"notes\.npz.*predict_bass"):
        evaluate.main(["bass"])


def test_a_prediction_that_lacks_a_track_is_an_error(project):
    save_predictions(project, "bass/stem", {TRACKS[0]: []})
    with pytest.raises(DataError, match="lacks Track00002"):
        evaluate.main(["bass"])


def test_a_stem_that_no_test_track_plays_cannot_be_scored(project):
    path = project / "data/shards/vocals/manifest.json"
    manifest = json.loads(path.read_text())
    for track in manifest["tracks"]:
        track["split"] = "test" if track["track"] == WITHOUT_VOICE else "train"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="no test track"):
        read_stem_test("vocals", "tokens")


def test_an_unknown_stem_is_wrong_use(project, capsys):
    assert run_stage(evaluate.main, ["bas"]) == 2
    assert "stems are bass, drums, vocals, other" in capsys.readouterr().err


def test_isolation_is_a_go_where_it_gains_enough(project):
    poc.main([])
    with open("metrics/poc.json") as stream:
        decisions = json.load(stream)
    assert list(decisions) == [f"{stem}_{fact}" for stem in STEMS for fact in ("gain", "ci", "go")]
    assert all(decisions[f"{stem}_go"] is True for stem in STEMS)
    assert decisions["bass_gain"] == pytest.approx(2 * 21 / 53 - 2 * 16 / 48, abs=1e-4)


def test_isolation_is_no_go_where_it_gains_little_or_nothing_certain(project):
    params = load_params(poc.reads())
    gain = poc.gain_of_isolation("bass", params)
    assert poc.worth_a_specialist(gain, minimum=0.05)
    assert not poc.worth_a_specialist(gain, minimum=0.5)
    doubtful = replace(gain, gain=replace(gain.gain, low=-0.01))
    assert not poc.worth_a_specialist(doubtful, minimum=0.05)


def test_poc_takes_no_argument(project):
    with pytest.raises(UsageError, match="bass"):
        poc.main(["bass"])


def test_stems_of_the_stages_are_those_of_the_parameters():
    assert tuple(PROGRAMS) == STEMS
