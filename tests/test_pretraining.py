"""What the base is taught with is true, repeatable, and contains no song that the demo validates or tests on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from processes import children
from shard_band import RATE, SECONDS, Sound, backbeat, walking_bass
from stemscribe import vocabulary
from stemscribe.atomic import sha256_file, write_json
from stemscribe.checkpoint import load_model, load_provenance, save_model
from stemscribe.data.crops import Crop, Grid
from stemscribe.data.sharding import PlannedSource, PlannedTrack, write_shards
from stemscribe.data.shards import ShardReader
from stemscribe.errors import CheckpointError, DataError, UsageError
from stemscribe.model.config import SMALL
from stemscribe.notes import Note, notes_to_columns
from stemscribe.pretraining import ship
from stemscribe.pretraining.crops import GeneralistCrops
from stemscribe.pretraining.params import MixtureParams, TrainParams, load_pretrain_params
from stemscribe.pretraining.refine import main as refine
from stemscribe.pretraining.thresholds import main as thresholds
from stemscribe.pretraining.train import main as train
from stemscribe.stages.base import SHIPPED as BASES
from tiny_model import small_model

REPOSITORY = Path(__file__).parents[1]
PRETRAIN = REPOSITORY / "pretrain"
SHIPPED = load_pretrain_params(PRETRAIN / "params.yaml").train
GRID = Grid.of(SMALL)
BASS, PIANO, STRINGS, DRUMS = 4, 0, 5, 12

# Every source at its own level, nothing moved, nothing added: then the sound of a crop can be compared with its targets.
UNTOUCHED = replace(SHIPPED.augment, transpose=0, gain_db=0, noise_db=-200, filter_share=0, room_share=0)
PLAIN = replace(SHIPPED, augment=UNTOUCHED)
IN_A_ROOM = replace(
    SHIPPED, augment=replace(UNTOUCHED, filter_share=1, filter_db=6, room_share=1, room_seconds=0.4, room_db=-12)
)
PLAINLY = {"drums": 0.25, "voices": 0.0, "keep_source": 1, "other_song": 0, "silent_channel": 0, "silence": 0}
ALONE = MixtureParams(single=1, single_later=1, group=0, curriculum=0, channels=2, written=2, **PLAINLY)
WHOLE = replace(ALONE, single=0, single_later=0)


def piano() -> list[Note]:
    return [Note(0.1 + 0.6 * k, 0.5 + 0.6 * k, 72 + 4 * (k % 3), 0) for k in range(9)]


def choir() -> list[Note]:
    return [Note(0.4 + 0.8 * k, 1.0 + 0.8 * k, 60 + 2 * (k % 2), 52) for k in range(6)]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """Two songs to train on and one to validate with, each of bass, piano, choir and drums."""
    tracks = []
    for number, split in enumerate(("train", "train", "validation"), start=1):
        parts = {33: walking_bass(36 + number), 0: piano(), 52: choir(), 128: backbeat()}
        sources = tuple(
            PlannedSource(f"S{index:02d}", program, "sine", notes_to_columns(notes), Sound(notes))
            for index, (program, notes) in enumerate(parts.items())
        )
        tracks.append(PlannedTrack(f"Track{number:05d}", split, int(SECONDS * RATE), sources))
    folder = tmp_path_factory.mktemp("shards") / "all"
    header = {"stem": "all", "programs": [0, 33, 52, 128], "channels": [0, 4, 5, 12], "sample_rate": RATE, "corpus": "band"}
    write_shards(folder, header, tracks, 1_000_000_000, 1, "songs")
    return ShardReader(folder)


def crops(songs: ShardReader, mixture: MixtureParams, seed: int = 1, first: int = 0, train: TrainParams = PLAIN) -> list[Crop]:
    dataset = GeneralistCrops(songs, SMALL, replace(train, mixture=mixture), seed, first, 24, 1000)
    return [dataset[index] for index in range(len(dataset))]


def test_a_crop_depends_on_seed_and_index_alone(songs: ShardReader) -> None:
    varied = replace(SHIPPED, mixture=replace(SHIPPED.mixture, other_song=0.5))
    once = crops(songs, varied.mixture, train=varied)
    again = crops(songs, varied.mixture, train=varied)
    later = crops(songs, varied.mixture, first=4, train=varied)
    for one, other in [*zip(once, again, strict=True), *zip(once[4:], later, strict=False)]:
        np.testing.assert_array_equal(one.waveform, other.waveform)
        np.testing.assert_array_equal(one.active, other.active)
        assert (one.tokens, one.channels) == (other.tokens, other.channels)
    elsewhere = crops(songs, varied.mixture, seed=2, train=varied)
    assert not any(np.array_equal(one.waveform, other.waveform) for one, other in zip(once, elsewhere, strict=True))


def loudness(crop: Crop, pitch: int, frames: Iterable[int]) -> list[float]:
    """How loud the sine of `pitch` is around each frame."""
    phases = 2j * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(1600) / RATE
    wave = np.exp(phases) * np.hanning(1600)
    middles = [frame * GRID.hop for frame in frames]
    return [float(abs(np.dot(wave, crop.waveform[m - 800 : m + 800]))) / 800 for m in middles]


@pytest.mark.parametrize("mixture", [ALONE, WHOLE], ids=["one source", "all sources"])
def test_pitches_sound_where_the_targets_say(songs: ShardReader, mixture: MixtureParams) -> None:
    checked = 0
    inside = range(3, GRID.frames - 4)  # where the window of a loudness fits
    for crop in crops(songs, mixture):
        for row, channel in enumerate(crop.channels):
            if channel == DRUMS:
                continue
            for pitch in np.flatnonzero(crop.active[row].any(axis=0)).tolist():
                active = crop.active[row, :, pitch]
                held = [f for f in inside if active[f - 2 : f + 3].all()]
                still = [f for f in inside if not active[f - 3 : f + 4].any()]
                assert min(loudness(crop, pitch, held), default=1) > 0.05
                assert max(loudness(crop, pitch, still), default=0) < 0.03
                checked += len(held)
    assert checked > 200


def test_a_source_alone_teaches_its_own_channel_and_a_silent_one(songs: ShardReader) -> None:
    seen = set()
    for crop in crops(songs, ALONE):
        first, second = crop.channels
        seen.add(first)
        assert crop.active[0].any()
        assert second not in (first,)
        assert crop.tokens[1] == (vocabulary.TIE, vocabulary.EOS)
        assert not crop.active[1].any()
    assert seen == {BASS, PIANO, STRINGS, DRUMS}


def test_in_a_mix_the_second_channel_sounds_too(songs: ShardReader) -> None:
    for crop in crops(songs, WHOLE):
        assert len(set(crop.channels)) == 2
        assert set(crop.channels) <= {BASS, PIANO, STRINGS, DRUMS}
        assert crop.active[1].any()


def test_now_and_then_the_second_channel_is_a_silent_one(songs: ShardReader) -> None:
    for crop in crops(songs, replace(WHOLE, silent_channel=1)):
        assert crop.channels[0] in {BASS, PIANO, STRINGS, DRUMS}
        assert crop.tokens[1] == (vocabulary.TIE, vocabulary.EOS)


def test_more_channels_can_be_taught_than_are_written(songs: ShardReader) -> None:
    for crop in crops(songs, replace(WHOLE, channels=4)):
        assert set(crop.channels) == {BASS, PIANO, STRINGS, DRUMS}
        assert len(crop.tokens) == 2
        assert crop.active.any(axis=(1, 2)).sum() >= 3


def test_drums_are_not_transposed_with_the_rest(songs: ShardReader) -> None:
    moving = replace(PLAIN, augment=replace(PLAIN.augment, transpose=3))
    pitches = set()
    for crop in crops(songs, replace(WHOLE, drums=1, channels=4), train=moving):
        rows = {channel: crop.onset[row] for row, channel in enumerate(crop.channels)}
        assert set(np.diff(np.flatnonzero(rows[DRUMS].any(axis=1)))) == {20}  # half a second, as it is played
        pitches |= set(np.flatnonzero(rows[PIANO].any(axis=0)).tolist())
    assert len(pitches) > 3  # the piano plays three


def test_crops_drawn_for_voices_have_one(songs: ShardReader) -> None:
    alone = crops(songs, replace(ALONE, drums=0, voices=1))
    assert {crop.channels[0] for crop in alone} == {STRINGS}
    assert all(crop.voice[0][crop.active[0] > 0].all() for crop in alone)
    halves = [crop.channels[0] for crop in crops(songs, replace(WHOLE, drums=0.5, voices=0.5))]
    assert set(halves) == {STRINGS, DRUMS}


def test_songs_without_what_is_asked_for_are_refused(songs: ShardReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "VOICE_LIKE", frozenset[int]())
    with pytest.raises(DataError, match=r"mixture\.drums and mixture\.voices ask for"):
        crops(songs, replace(ALONE, drums=0, voices=1))


def test_a_group_holds_the_sources_of_one_stem(songs: ShardReader) -> None:
    for whole, group in zip(crops(songs, WHOLE), crops(songs, replace(WHOLE, group=1)), strict=True):
        assert group.channels[0] == whole.channels[0]  # the same place, other sources
        assert not group.active[1].any()  # each of these stems is a single source here


def test_filters_and_rooms_change_the_sound_and_not_what_is_said_about_it(songs: ShardReader) -> None:
    for dry, wet in zip(crops(songs, WHOLE), crops(songs, WHOLE, train=IN_A_ROOM), strict=True):
        np.testing.assert_array_equal(dry.active[0], wet.active[0])
        assert dry.tokens[0] == wet.tokens[0]
        assert np.abs(dry.waveform - wet.waveform).max() > 0.01
        assert np.isfinite(wet.waveform).all()


def test_now_and_then_nothing_plays_and_nothing_is_said(songs: ShardReader) -> None:
    for crop in crops(songs, replace(WHOLE, silence=1)):
        assert np.abs(crop.waveform).max() < 1e-6
        assert len(set(crop.channels)) == 2
        assert crop.tokens == ((vocabulary.TIE, vocabulary.EOS),) * 2
        assert not crop.active.any()
    silent = [not np.abs(crop.waveform).max() > 1e-6 for crop in crops(songs, replace(WHOLE, silence=0.5))]
    assert 4 < sum(silent) < 20  # of 24


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(PRETRAIN / "params.yaml", tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  steps:", "  stepps:", "unknown key 'stepps'; did you mean 'steps'"),
        ("    single_later:", "    # single_later:", "missing key 'single_later'"),
        (r"    group: \S+", "    group: 1.4", "train.mixture.group: expected a share from 0 to 1"),
        (r"(?s)(refine:.*?)    group: \S+", r"\1    group: 1.4", "refine.mixture.group: expected a share from 0 to 1"),
        (r"    drums: \S+\n    voices: \S+", "    drums: 0.6\n    voices: 0.5", "together at most 1"),
        (r"  frames_first: \S+", "  frames_first: -0.1", "train.frames_first: expected a share from 0 to 1"),
        ("    timgm6mb: 2", "    timgm6mb: 0", "songs.soundfonts: expected a weight above 0"),
        (r"  steps: \S+", "  steps: 0", "train.steps: expected at least 1"),
        (r"  batch_size: \S+", "  batch_size: 0", "train.batch_size: expected at least 1"),
        (r"  validate_every: \S+", "  validate_every: 0", "train.validate_every: expected at least 1"),
        (r"  learning_rate: \S+", "  learning_rate: 0", "train.learning_rate: expected a number above 0"),
        (r"  validation_seconds: \S+", "  validation_seconds: 0", "train.validation_seconds: expected a number above 0"),
        (r"  weight_decay: \S+", "  weight_decay: -1", "train.weight_decay: expected at least 0"),
        (r"  shift_smoothing: .*", "  shift_smoothing: [1, 1, 1]", "train.shift_smoothing: expected shares a, b, c"),
        (r"    transpose: \S+", "    transpose: 13", "train.augment.transpose: expected 0 to 12 semitones"),
        (r"    noise_db: \S+", "    noise_db: 3", "train.augment.noise_db: expected a level of 0 dB or below"),
        (r"  processes: \S+", "  processes: 0", "train.processes: expected at least 1"),
        (r"seed: \S+", "seed: -1", "seed: expected a whole number from 0"),
        (r"  processes: \S+", "  processes: 5", "train.batch_size: expected a multiple of train.processes"),
        (r"  takes: \S+", "  takes: 0", "songs.takes: expected at least 1"),
        (r"  recast_share: \S+", "  recast_share: 3", "songs.recast_share: expected a share from 0 to 1"),
        (r"    room_share: \S+", "    room_share: 1.3", "train.augment.room_share: expected a share from 0 to 1"),
        (r"    room_db: \S+", "    room_db: 12", "train.augment.room_db: expected a level of 0 dB or below"),
        (r"    written: \S+", "    written: 6", "train.mixture: expected written and channels from 2 to 13"),
        (r"\nthresholds:\n  seconds: \S+", "\nthresholds:\n  seconds: 0", "thresholds.seconds: expected a number above 0"),
        (r"seed: \S+", "seed: yes", "seed: expected a whole number"),
    ],
)
def test_settings_are_read_strictly(params: Path, old: str, new: str, expected: str) -> None:
    text, changed = re.subn(old, new, params.read_text(encoding="utf-8"), count=1)
    assert changed
    params.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_pretrain_params(params)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_soundfont_is_needed(params: Path) -> None:
    settings: dict[str, Any] = yaml.safe_load(params.read_text(encoding="utf-8"))
    settings["songs"]["soundfonts"] = {}
    params.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(UsageError, match=r"songs\.soundfonts: expected named blocks") as caught:
        load_pretrain_params(params)
    assert "\n" not in str(caught.value)


def test_only_a_sound_and_small_base_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "pretrain"
    project.mkdir()
    monkeypatch.chdir(project)
    packaged = tmp_path / "src/stemscribe/weights/small"
    with pytest.raises(CheckpointError, match="no model folder"):
        ship.main([])
    save_model(project / "model", small_model(), {"seed": 1})
    write_json(project / "data/raw/audit.json", {"songs": {"train": ["a1b2"], "validation": []}})
    with monkeypatch.context() as patch, pytest.raises(DataError, match="at most 1 MB are shipped"):
        patch.setattr(ship, "LARGEST_BYTES", 1_000_000)
        ship.main([])
    assert not packaged.exists()
    curves, later = (project / logs / "plots/metrics/validation" for logs in ("logs", "logs_refine"))
    for folder in (curves, later):
        folder.mkdir(parents=True)
    (curves / "bass_frames.tsv").write_text("step\tbass_frames\n1\t0.25\n2\t0.51239\n", encoding="utf-8")
    (curves / "bass_tokens.tsv").write_text("step\tbass_tokens\n2\t0.5\n", encoding="utf-8")
    (later / "bass_tokens.tsv").write_text("step\tbass_tokens\n3\t0.6\n", encoding="utf-8")
    ship.main([])
    assert sha256_file(packaged / "model.safetensors") == sha256_file(project / "model" / "model.safetensors")
    curve = [{"step": 1, "bass_frames": 0.25}, {"step": 2, "bass_frames": 0.5124, "bass_tokens": 0.5}]
    curve += [{"step": 5, "bass_tokens": 0.6}]
    assert load_provenance(packaged) == {"seed": 1, "heard": ["a1b2"], "curve": curve}


@pytest.fixture
def project(songs: ShardReader, params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pretrain/, of recipes that are over in seconds, and the current one."""
    settings: dict[str, Any] = yaml.safe_load(params.read_text(encoding="utf-8"))
    few = {"batch_size": 2, "processes": 1, "validate_every": 1, "validation_seconds": 1}
    settings["train"].update(few, steps=2, frames_first=0.5)
    settings["refine"].update(few, steps=1)
    settings["thresholds"]["seconds"] = 2
    params.write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/shards").mkdir(parents=True)
    (tmp_path / "data/shards/all").symlink_to(songs.folder)
    return tmp_path


@pytest.mark.filterwarnings("ignore:::pytorch_lightning", "ignore:::dvclive")
def test_a_base_is_trained_refined_and_given_thresholds_and_what_is_finished_is_not_done_again(project: Path) -> None:
    train([])
    facts = load_provenance(project / "trained")
    curve = (project / "logs/plots/metrics/validation/bass_frames.tsv").read_text().splitlines()
    first = sha256_file(project / "trained/model.safetensors")
    assert load_model(project / "trained").channels == tuple(range(13))
    assert facts["training"]["steps"] == 2
    scores = {f"validation/{stem}_{heard}" for stem in ("bass", "drums") for heard in ("frames", "tokens", "mix")}
    assert scores <= set(facts["validation"])
    assert [row.split("\t")[0] for row in curve] == ["step", "1", "2"]
    train([])
    again = load_provenance(project / "trained")
    assert (again["training"]["resumed"], again["training"]["steps"]) == (True, 2)
    assert again["validation"] == facts["validation"]
    assert (project / "logs/plots/metrics/validation/bass_frames.tsv").read_text().splitlines() == curve
    assert sha256_file(project / "trained/model.safetensors") == first
    refine([])
    refined = load_provenance(project / "refined")
    assert refined["before"] == again
    assert refined["inputs"]["trained/model.safetensors"] == first
    assert refined["params"]["seed"] == again["params"]["seed"] + 1
    assert (refined["training"]["steps"], refined["training"]["resumed"]) == (1, False)
    assert scores <= set(refined["validation"])
    second = sha256_file(project / "refined/model.safetensors")
    assert second != first
    thresholds([])
    kept = load_provenance(project / "model")
    assert kept == {**refined, "thresholds": kept["thresholds"]}
    assert kept["thresholds"]["params"] == {"thresholds": {"seconds": 2}}
    assert sha256_file(project / "model/model.safetensors") == second
    before, after = (load_model(project / name).config.frame_head for name in ("refined", "model"))
    assert before is not None
    assert after is not None
    assert after.onset_thresholds != before.onset_thresholds


def test_a_training_with_partners_that_was_killed_ends_with_the_same_weights(project: Path) -> None:
    settings = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    settings["train"].update(steps=8, processes=2, validate_every=2)
    (project / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "stemscribe.pretraining.train"]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(project.glob("work/*/last.ckpt")):
        assert running.poll() is None, "the training ended before it could be killed"
        time.sleep(0.05)
    running.kill()
    running.wait()
    assert not (project / "trained").exists()
    wait_for_the_end_of(running.pid)
    subprocess.run(command, check=True, capture_output=True)
    facts, killed = load_provenance(project / "trained"), sha256_file(project / "trained/model.safetensors")
    assert facts["training"] == {**facts["training"], "steps": 8, "resumed": True}
    for folder in ("work", "trained", "logs"):
        shutil.rmtree(project / folder)
    subprocess.run(command, check=True, capture_output=True)
    assert not load_provenance(project / "trained")["training"]["resumed"]
    assert sha256_file(project / "trained/model.safetensors") == killed


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the partner in /proc")
@pytest.mark.parametrize("loaded", [False, True])
def test_ctrl_c_in_a_training_with_partners_is_one_line(project: Path, loaded: bool) -> None:
    settings = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    settings["train"].update(steps=400, processes=2, validate_every=400)
    (project / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "stemscribe.pretraining.train"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr is not None
        while not children(running.pid):  # a partner that has yet to load its libraries
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.02)
        while loaded and "step " not in running.stderr.readline():
            pass
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1] == "stemscribe: interrupted; the next run continues from what is finished"
    assert "Traceback" not in said
    wait_for_the_end_of(running.pid)


def wait_for_the_end_of(group: int) -> None:
    """Until no process of the group is left: partners end by themselves."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a partner outlived the training")


# Settings that came after a training, with the values under which they change nothing.
SINCE = {"voices": 0, "voice_weight": 0.3}


def test_the_shipped_base_was_made_by_the_recipes_that_stand_there() -> None:
    facts, recipes = load_provenance(BASES["small"]), yaml.safe_load((PRETRAIN / "params.yaml").read_text(encoding="utf-8"))
    assert facts["params"]["refine"] == recipes["refine"]
    assert without_what_came_since(facts["before"]["params"]["train"]) == without_what_came_since(recipes["train"])
    assert facts["thresholds"]["params"]["thresholds"] == recipes["thresholds"]


def without_what_came_since(recipe: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in recipe.items() if SINCE.get(name) != value}
    return {name: without_what_came_since(value) if isinstance(value, dict) else value for name, value in told.items()}


def test_the_lock_of_the_base_names_the_parameters_that_stand_there() -> None:
    lock = yaml.safe_load((PRETRAIN / "dvc.lock").read_text(encoding="utf-8"))
    settings = yaml.safe_load((PRETRAIN / "params.yaml").read_text(encoding="utf-8"))
    stages = yaml.safe_load((PRETRAIN / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert lock["stages"].keys() == stages.keys()
    for stage in lock["stages"].values():
        for name, value in stage["params"]["params.yaml"].items():
            assert value == settings[name]
