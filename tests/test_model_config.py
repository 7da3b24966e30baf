import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from stemscribe.model import FULL, SMALL, FrameHeadConfig, HarmonicConfig, ModelConfig, YourMT3
from stemscribe.model.config import WITH_EARS


@pytest.mark.parametrize("config", [FULL, SMALL], ids=["full", "small"])
def test_a_config_survives_json(config):
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"unknown key 'hopp'; did you mean 'hop'\?"):
        ModelConfig.from_json({**FULL.to_json(), "hopp": 300})


def test_a_missing_key_is_refused_by_name():
    content = FULL.to_json()
    del content["scale_head"]
    with pytest.raises(ValueError, match="key 'scale_head' is missing"):
        ModelConfig.from_json(content)


def test_the_frame_head_s_keys_are_strict_too():
    content = SMALL.to_json()
    content["frame_head"]["active_treshold"] = 0.5
    with pytest.raises(ValueError, match="frame_head: unknown key 'active_treshold'"):
        ModelConfig.from_json(content)


@pytest.mark.parametrize(("name", "value"), [("hop", "300"), ("hop", True), ("scale_head", 1), ("frame_head", 3)])
def test_a_value_of_the_wrong_kind_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        ModelConfig.from_json({**FULL.to_json(), name: value})


@pytest.mark.parametrize(
    "change",
    [
        {"d_latent": 130},
        {"rotary_width": 3},
        {"rotary_width": 32},
        {"num_latents": 13},
        {"top_k": 9},
        {"bins": 1_025},
        {"bins": 1_020},
        {"max_length": 2_000},
        {"norm": "batch"},
        {"encoder_dropout": 1.0},
        {"blocks": 0},
        {"eos": 596},
        {"segment_samples": 1_000},
        {"d_model": 511},
    ],
    ids=lambda change: "-".join(change),
)
def test_inconsistent_sizes_are_refused_in_one_line(change):
    with pytest.raises(ValueError, match="model config: ") as raised:
        dataclasses.replace(FULL, **change)
    assert next(iter(change)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_thresholds_are_probabilities():
    for name, value in (
        ("onset_thresholds", (0.5,) * 12 + (1.5,)),
        ("active_threshold", 1.5),
        ("unison_threshold", 1.5),
        ("exceptions", ((12, 36, 1.5),)),
    ):
        with pytest.raises(ValueError, match=rf"frame_head\.{name} has a threshold of 1\.5; it must lie between 0 and 1"):
            FrameHeadConfig(**{name: value})
    with pytest.raises(ValueError, match="must be 13, one a channel, not 2"):
        dataclasses.replace(SMALL, frame_head=FrameHeadConfig(onset_thresholds=(0.5, 0.5)))


def test_a_pitch_may_have_a_threshold_of_its_own():
    head = dataclasses.replace(SMALL.frame_head, exceptions=((12, 51, 0.2),))
    config = dataclasses.replace(SMALL, frame_head=head)
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match=r"has a threshold of 1\.5"):
        dataclasses.replace(SMALL.frame_head, exceptions=((12, 51, 1.5),))
    for place in ((13, 51), (12, 128)):
        with pytest.raises(ValueError, match="names no channel and pitch with"):
            dataclasses.replace(SMALL, frame_head=dataclasses.replace(head, exceptions=((*place, 0.2),)))
    for rows in ([[12, 51]], [[12, 51, "a"]], 5, [5]):
        content = json.loads(json.dumps(config.to_json()))
        content["frame_head"]["exceptions"] = rows
        with pytest.raises(ValueError, match="it must be a list of lists of int, int, float"):
            ModelConfig.from_json(content)


def test_an_unpitched_channel_must_exist():
    with pytest.raises(ValueError, match="names no channel with 13"):
        dataclasses.replace(SMALL, frame_head=FrameHeadConfig(harmonic=HarmonicConfig(unpitched=(13,))))


def test_frames_of_a_segment():
    assert FULL.frames == 110  # of 18.75 ms
    assert SMALL.frames == 82  # of 25 ms


def test_small_is_small():
    assert sum(weight.numel() for weight in YourMT3(SMALL).parameters()) == 2_202_464


def test_options_add_their_keys_and_no_others():
    with torch.device("meta"):
        without = {"memory_positions": False, "temporal_positions": False, "memory_frames": False, "frame_head": None}
        plain = dataclasses.replace(SMALL, **without)
        added = YourMT3(SMALL).state_dict().keys() - YourMT3(plain).state_dict().keys()
    assert {key for key in added if not key.startswith("frame_head.")} == {
        "memory_positions",
        "encoder.temporal_positions",
        "frame_memory.weight",
    }
    assert {key.split(".")[1] for key in added if key.startswith("frame_head.")} == {"linear", "harmonic", "percussive"}


def test_a_frame_head_of_the_full_size_adds_its_keys_and_no_others():
    with torch.device("meta"):
        plain, headed = (YourMT3(config).state_dict() for config in (FULL, dataclasses.replace(FULL, frame_head=WITH_EARS)))
    added = headed.keys() - plain.keys()
    assert plain.keys() <= headed.keys()
    assert added
    assert all(key.startswith("frame_head.") for key in added)
    assert headed["frame_head.linear.weight"].shape == (4 * 128, FULL.d_model)


def test_rms_norm_has_no_biases():
    with torch.device("meta"):
        assert len(YourMT3(dataclasses.replace(FULL, norm="rms")).state_dict()) == 625


def test_both_sizes_have_the_keys_that_their_page_counts():
    page = (Path(__file__).resolve().parents[1] / "docs/model.md").read_text(encoding="utf-8")
    counts = re.findall(r"^\| keys of the state dict \| (\d+), .* \| (\d+) \|$", page, re.MULTILINE)
    with torch.device("meta"):
        assert counts == [tuple(str(len(YourMT3(config).state_dict())) for config in (FULL, SMALL))]
