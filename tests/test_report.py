"""The page shows what was measured, plainly, to everybody, without a network."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scored_project import SECONDS, TRACKS, choose_head, write_project
from stemscribe.notes import Note
from stemscribe.report import wording
from stemscribe.report.cards import card
from stemscribe.report.evidence import Curve, read_evidence
from stemscribe.report.excerpt import as_flac, choose_start, choose_track
from stemscribe.report.figures import curve_chart, signed, thinned
from stemscribe.report.markup import VOID, Html, grouped_table, percent, table, tag
from stemscribe.report.page import page
from stemscribe.report.pianoroll import piano_roll, pitch_name
from stemscribe.scoring.conditions import HEADLINE
from stemscribe.scoring.tables import write_table
from stemscribe.stages import STEMS, evaluate, poc, report, run_stage


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A project folder in which all stages before the report have run."""
    root = write_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stem in STEMS:
            evaluate.main([stem])
        poc.main([])
    return root


@pytest.fixture
def project(scored, tmp_path, monkeypatch):
    """A copy that a test may break."""
    copy = tmp_path / "project"
    shutil.copytree(scored, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="module")
def evidence(scored):
    return read_evidence(STEMS, "tokens", root=scored)


@pytest.fixture(scope="module")
def html(evidence):
    return page(evidence, 0.05)


class Outline(HTMLParser):
    """Elements in order, with their attributes; complains about what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, *names):
        return [(name, attributes) for name, attributes in self.elements if name in names]


def test_the_stage_writes_the_page_and_a_card_for_each_stem(project):
    assert run_stage(report.main, []) == 0
    written = sorted(str(path.relative_to(project / "report")) for path in (project / "report").rglob("*") if path.is_file())
    assert written == ["cards/bass.md", "cards/drums.md", "cards/other.md", "cards/vocals.md", "index.html"]


def test_equal_evidence_gives_equal_bytes(project):
    def outcome():
        report.main([])
        return {path.name: path.read_bytes() for path in (project / "report").rglob("*") if path.is_file()}

    assert outcome() == outcome()


def test_the_page_loads_nothing(html):
    outline = Outline(html)
    sources = [attributes[key] for _, attributes in outline.elements for key in ("src", "href", "srcset") if key in attributes]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not outline.all("link", "iframe", "object", "embed")
    assert "url(" not in html
    assert "@import" not in html
    assert "fetch(" not in html


def test_the_page_can_be_read_by_a_screen_reader(html):
    outline = Outline(html)
    assert outline.elements[0] == ("html", {"lang": "en"})
    assert [name for name, _ in outline.all("h1")] == ["h1"]
    levels = [int(name[1]) for name, _ in outline.all("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for name, attributes in outline.all("svg", "audio"):
        hidden = attributes.get("aria-hidden") == "true"
        assert hidden or attributes.get("aria-label"), (name, attributes)
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for _, attributes in outline.all("th"))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    targets = [attributes["href"][1:] for _, attributes in outline.all("a")]
    assert len(ids) == len(set(ids))
    assert set(targets) <= set(ids)


def test_the_page_knows_phones_and_dark_rooms(html):
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in Outline(html).elements
    assert "prefers-color-scheme: dark" in html


def test_the_headline_table_has_all_conditions_with_intervals(html):
    text = " ".join(Outline(html).text.split())
    assert "0.857 ± 0.000" in text
    assert "0.667 ± 0.000" in text
    for words in (
        "base on the mix",
        "base on the true stem",
        "specialist on the true stem",
        "specialist on the separated stem",
    ):
        assert words in text


def test_both_readings_of_a_stem_stand_side_by_side(html):
    results = html[html.index('id="results"') : html.index('id="bass"')]
    text = Outline("<div>" + results[results.index("<table") : results.index("</table>")] + "</table></div>").text
    readings = text.split("bass")[1].split("drums")[0]
    assert readings.index("token decoder") < readings.index("0.857 ± 0.000") < readings.index("frame head")
    assert readings.index("frame head") < readings.index("1.000 ± 0.000", readings.index("frame head"))


def test_a_reading_is_called_better_only_where_its_interval_says_so(evidence):
    bass = evidence.stems[0]
    (sentence,) = wording.heads_compared(bass)
    assert "+0.143 against the token decoder" in sentence
    assert "Here the frame head reads better." in sentence
    doubtful = {**bass.heads["frames"][HEADLINE], "delta_vs_head_low": -0.01}
    unsure = replace(bass, heads={**bass.heads, "frames": {**bass.heads["frames"], HEADLINE: doubtful}})
    assert "cannot tell which of the two reads better" in wording.heads_compared(unsure)[0]


def test_a_model_with_one_head_has_one_reading(evidence):
    stems = tuple(replace(stem, heads={"tokens": stem.conditions}) for stem in evidence.stems)
    text = Outline(page(replace(evidence, stems=stems), 0.05)).text
    assert "token decoder" in text
    assert "read in two ways: by its" not in text
    assert wording.heads_compared(stems[0]) == []


def test_the_page_says_that_vocals_are_not_singing_and_separation_is_simulated(html):
    text = Outline(html).text
    assert text.count("There is no singing in this corpus. Vocals here are voice-like programs") == 1
    assert text.count("simulated bleed (-12 dB)") == len(STEMS)
    assert "No separator was run." in text


def test_a_corpus_with_singing_needs_no_such_warning(evidence):
    vocals = evidence.stems[STEMS.index("vocals")]
    assert wording.VOICE_LIKE in wording.cautions(vocals, evidence)
    assert wording.VOICE_LIKE not in wording.cautions(vocals, replace(evidence, singing=True))


@pytest.mark.parametrize(
    ("method", "words"),
    [("oracle (the true stem)", "without error"), ("htdemucs 4", "separated from the mix by htdemucs 4")],
)
def test_separation_is_named_for_what_it_is(evidence, method, words):
    assert words in wording.separation(replace(evidence.stems[0], separation=method))


def test_each_excerpt_can_be_heard(html):
    audio = [attributes["src"] for _, attributes in Outline(html).all("audio")]
    assert len(audio) == len(STEMS)
    for source in audio:
        kind, content = source.split(",")
        assert kind == "data:audio/flac;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert len(samples) / rate <= 12
        assert np.abs(samples).max() == pytest.approx(0.7, abs=0.01)


def test_names_from_outside_cannot_break_the_page(html):
    assert "songs &lt;of&gt; eighth notes" in html
    assert "songs <of>" not in html


def test_a_loss_is_called_a_loss_and_doubt_is_called_doubt(evidence):
    bass = evidence.stems[0]
    worse = {**bass.conditions[HEADLINE], "delta_vs_base": -0.1, "improved_tracks": 0.0}
    loser = replace(bass, heads={**bass.heads, "tokens": {**bass.conditions, HEADLINE: worse}})
    assert "The loss holds" in wording.verdict(loser, 0.01)
    assert "\N{MINUS SIGN}0.100" in wording.verdict(loser, 0.01)
    assert "cannot tell the difference from chance" in wording.verdict(bass, 0.2)
    assert "The gain holds" in wording.verdict(bass, 0.01)


def test_a_specialist_that_is_still_the_base_is_called_so(evidence):
    kept = replace(evidence.stems[0], provenance={"training": {"share": 0.0}})
    assert any("the base's own" in caution for caution in wording.cautions(kept, evidence))
    between = replace(evidence.stems[0], provenance={"training": {"share": 0.5}})
    assert any("0.5 of the way" in caution for caution in wording.cautions(between, evidence))


def test_p_values_are_corrected_over_the_stems(evidence):
    alone = evidence.stems[0].conditions[HEADLINE]["p_value"]
    assert evidence.corrected_p["bass"] >= alone
    assert evidence.corrected_p["bass"] <= len(STEMS) * alone


def test_a_p_value_is_written_with_enough_digits_to_be_judged_by(tmp_path):
    """Holm's 0.0249 times two is below .05; 0.025 times two is not."""
    write_table(tmp_path / "conditions.csv", [{"p_value": 0.0249}, {"p_value": 1.25e-7}])
    assert (tmp_path / "conditions.csv").read_text() == "p_value\n0.0249\n1.25e-07\n"


def test_a_card_names_programs_that_no_class_has(evidence):
    strange = replace(evidence.stems[0], programs=(33, 96))
    assert "listens for electric bass and program 96" in card(strange, evidence)


def test_a_card_says_what_the_model_hears_and_where_it_comes_from(project):
    report.main([])
    card = (project / "report/cards/vocals.md").read_text()
    assert "listens for choir and voice, synth lead, synth pad, singing and chorus" in card
    assert "There is no singing in this corpus." in card
    assert "| specialist on the separated stem | token decoder | 0.857" in card
    assert "| specialist on the separated stem | frame head | 1.000" in card
    assert "--model models/vocals --decode tokens" in card
    assert "- commit: 0123abc" in card
    assert "listens for drums and" in (project / "report/cards/drums.md").read_text()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("metrics/bass.json", "dvc repro evaluate_bass"),
        ("metrics/poc.json", "dvc repro poc"),
        ("plots/drums/tracks.csv", "dvc repro evaluate_drums"),
        ("models/other/provenance.json", "dvc repro finetune_other"),
        ("predictions/vocals/separated/tokens/notes.npz", "predictions/vocals/separated"),
    ],
)
def test_what_is_missing_is_said_in_one_line(project, capsys, missing, words):
    (project / missing).unlink()
    assert run_stage(report.main, []) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (project / "report").exists()


@pytest.mark.parametrize(
    ("broken", "content"),
    [
        ("metrics/bass.json", "{"),
        ("metrics/bass.json", "{}"),
        ("metrics/poc.json", "[]"),
        ("plots/bass/conditions.csv", "head,condition,onset_f1\ntokens,base_mix,0.5\n"),
        ("plots/bass/tracks.csv", "track,head,condition,onset_f1\nTrack00001,tokens,specialist_separated,much\n"),
    ],
)
def test_broken_tables_are_errors_for_people(project, capsys, broken, content):
    (project / broken).write_text(content)
    assert run_stage(report.main, []) == 1
    assert capsys.readouterr().err.startswith("stemscribe: ")


def test_a_page_of_another_headline_is_refused(project, capsys):
    choose_head(project, "frames")
    assert run_stage(report.main, []) == 1
    assert "has tokens for its headline and params.yaml frames; run `dvc repro evaluate_bass`" in capsys.readouterr().err


def test_a_run_without_logged_curves_has_a_page_too(project):
    shutil.rmtree(project / "logs")
    report.main([])
    assert "Learning" not in (project / "report/index.html").read_text()


def test_provenance_is_spelled_out():
    facts = {"commit": None, "params": {"seed": 1, "rates": [0.1, 0.2]}, "seconds": 12.345678}
    assert wording.flattened(facts) == [
        ("commit", "unknown"),
        ("params: seed", "1"),
        ("params: rates", "0.1, 0.2"),
        ("seconds", "12.3457"),
    ]


def test_the_excerpt_shows_the_middle_track_where_most_is_played():
    assert choose_track({"a": 0.9, "b": 0.1, "c": 0.5}) == "c"
    assert choose_track({"a": 0.9, "b": 0.1}) == "b"
    busy = [Note(20 + place / 10, 21, 60) for place in range(20)]
    assert choose_start([Note(1, 2, 60), *busy], 60.0, 10.0) == 15.0
    assert choose_start([], 60.0, 10.0) == 0.0
    assert choose_start(busy, 22.0, 10.0) == 12.0
    assert choose_start(busy, 4.0, 10.0) == 0.0


def test_the_roll_tells_found_missed_and_false_notes_apart(evidence):
    bass = evidence.stems[0].excerpt
    assert bass.seconds == SECONDS
    assert bass.track in TRACKS
    assert (len(bass.found), len(bass.missed), len(bass.false)) == (24, 8, 0)
    roll = Outline(piano_roll(bass, drums=False))
    drawn = [attributes["class"] for _, attributes in roll.all("rect")]
    assert {kind: drawn.count(kind) for kind in ("true", "found", "missed", "false")} == {
        "true": 24,
        "found": 24,
        "missed": 8,
        "false": 0,
    }
    assert "24 notes found, 8 missed, 0 false" in roll.text


def test_drums_are_drawn_by_name(evidence):
    drums = evidence.stems[STEMS.index("drums")].excerpt
    text = Outline(piano_roll(drums, drums=True)).text
    assert all(name in text for name in ("Kick", "Snare", "Closed Hi-Hat"))


def test_middle_c_is_c4():
    assert (pitch_name(60), pitch_name(28)) == ("C4", "E1")


def test_silence_can_be_heard_as_silence():
    samples, rate = soundfile.read(io.BytesIO(as_flac(np.zeros(1600, np.float32), 16000)))
    assert (rate, len(samples), samples.any()) == (16000, 1600, False)


def test_a_learning_curve_says_its_best_in_words():
    figure = curve_chart(Curve("validation/onset_f1", (0.0, 40.0, 80.0), (0.4, 0.75, 0.7)))
    assert "first 0.4, best 0.75 at step 40, last 0.7" in figure
    assert "best 0.5" in curve_chart(Curve("train/loss", (0.0, 40.0), (2.0, 0.5)))
    assert curve_chart(Curve("train/loss", (7.0,), (2.0,)))


def test_long_curves_are_thinned_but_keep_their_ends():
    points = [(float(x), 0.0) for x in range(100_000)]
    few = list(thinned(points))
    assert len(few) < 1000
    assert (few[0], few[-1]) == (points[0], points[-1])


@given(st.text(), st.text())
def test_text_and_attributes_come_back_as_they_were(content, value):
    cleaned = re.sub(r"[\r\x00]", "", content)
    plain = re.sub(r"[\r\x00]", "", value)
    outline = Outline(tag("p", cleaned, data_value=plain))
    assert outline.text == cleaned
    assert outline.elements == [("p", {"data-value": plain})]


def test_markup_is_not_escaped_twice():
    assert tag("p", tag("b", "a < b"), None, ["c", Html("<br>")]) == "<p><b>a &lt; b</b>c<br></p>"
    assert tag("input", class_="x", hidden=True, checked=False, width=1.5) == '<input class="x" hidden width="1.5"></input>'
    assert percent(0.5) == "50%"
    assert signed(-0.25, 2) == "\N{MINUS SIGN}0.25"


def test_a_table_has_a_caption_and_headers():
    outline = Outline(table("Scores", ["stem", "F1"], [["bass", "0.9"]]))
    assert [name for name, _ in outline.elements] == [
        "div",
        "table",
        "caption",
        "thead",
        "tr",
        "th",
        "th",
        "tbody",
        "tr",
        "th",
        "td",
    ]


def test_a_grouped_table_has_a_header_for_each_group_and_row():
    outline = Outline(grouped_table("Scores", ["stem", "read by", "F1"], [["bass", [["tokens", "0.9"], ["frames", "0.8"]]]]))
    headers = [(attributes["scope"], attributes.get("rowspan")) for _, attributes in outline.all("th")]
    assert headers == [("col", None)] * 3 + [("rowgroup", "2"), ("row", None), ("row", None)]
    assert len(outline.all("td")) == 2


def test_the_stage_reads_what_the_text_speaks_of(project, capsys):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["evaluate"]["onset_tolerance"] = 0.1
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    report.main([])
    assert "within 100 ms of the true note" in (project / "report/index.html").read_text()


def test_cards_of_scored_stems_name_the_numbers_of_metrics(project):
    report.main([])
    with open("metrics/bass.json") as stream:
        onset = json.load(stream)["onset_f1"]
    assert f"{onset:.3f}" in (project / "report/cards/bass.md").read_text()
