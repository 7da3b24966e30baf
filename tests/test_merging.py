"""Between a base and its specialists: each end is exact, the middle is the middle, and strangers are not mixed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stemscribe.checkpoint import load_model, load_programs, load_provenance, save_model
from stemscribe.cli import main
from stemscribe.errors import CheckpointError, UsageError
from stemscribe.merging import interpolate, merge
from stemscribe.model import FrameHeadConfig, YourMT3
from stemscribe.model.initialisation import has_untaught_head
from stemscribe.stages.base import with_frame_head
from stemscribe.stages.finetune import specialist_of
from tiny_model import small_model, tiny_model

BASS, DRUMS = list(range(32, 40)), [128]


def taught(channels: list[int], seed: int) -> YourMT3:
    model, generator = tiny_model(channels), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    save_model(tmp_path / "base", tiny_model(), {"made": "base"})
    save_model(tmp_path / "bass", taught([4], 1), {"made": "bass"}, BASS)
    save_model(tmp_path / "drums", taught([12], 2), {"made": "drums"}, DRUMS)
    save_model(tmp_path / "stranger", small_model([4]), {}, BASS)
    return tmp_path


def refuses(kind: type[Exception], match: str) -> Any:
    return pytest.raises(kind, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("weight", "equal"), [(0.0, "base"), (1.0, "bass")])
def test_the_ends_are_exact(weight: float, equal: str, folders: Path) -> None:
    merge(folders / "base", [folders / "bass"], weight, folders / "merged")
    assert same(weights(folders / "merged"), weights(folders / equal))
    assert load_model(folders / "merged").channels == (4,)
    assert load_programs(folders / "merged") == tuple(BASS)


def test_half_way_between_a_base_and_two_specialists(folders: Path) -> None:
    merge(folders / "base", [folders / "bass", folders / "drums"], 0.5, folders / "merged")
    base, bass, drums, merged = (weights(folders / name) for name in ("base", "bass", "drums", "merged"))
    for key, value in merged.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, base[key] / 2 + bass[key] / 4 + drums[key] / 4)
    assert load_model(folders / "merged").channels == (4, 12)
    assert load_programs(folders / "merged") == (*BASS, *DRUMS)
    provenance = load_provenance(folders / "merged")
    assert provenance["params"] == {"merge": {"weight": 0.5}}
    assert [each["made"] for each in provenance["merged"].values()] == ["base", "bass", "drums"]


def test_a_head_that_was_not_taught_stays_one(tmp_path: Path) -> None:
    base = with_frame_head(tiny_model())
    save_model(tmp_path / "base", base, {})
    for channel in (3, 4, 5):
        specialist = specialist_of(base, [channel])
        save_model(tmp_path / str(channel), specialist, {}, BASS)
    merge(tmp_path / "base", [tmp_path / name for name in "345"], 0.7, tmp_path / "merged")
    assert all(has_untaught_head(load_model(tmp_path / name)) for name in ("base", "3", "merged"))
    assert specialist.frame_head is not None
    with torch.no_grad():
        specialist.frame_head.linear.bias += 0.1
    assert not has_untaught_head(specialist)
    assert not has_untaught_head(tiny_model())  # it has none
    assert not has_untaught_head(small_model())
    linear = YourMT3(replace(base.config, frame_head=FrameHeadConfig(onset_thresholds=(0.4,) * 13)))
    assert not has_untaught_head(linear)  # a head without ears is none that a stage adds


def test_a_specialist_of_everything_makes_a_model_of_everything(folders: Path) -> None:
    merge(folders / "base", [folders / "bass", folders / "base"], 0.5, folders / "merged")
    assert load_programs(folders / "merged") is None
    assert load_model(folders / "merged").channels == tuple(range(13))


def test_what_cannot_be_merged(folders: Path) -> None:
    with refuses(CheckpointError, "stranger is of another architecture than .*base; merge a base with its own specialists"):
        merge(folders / "base", [folders / "bass", folders / "stranger"], 0.5, folders / "merged")
    for weight in (-0.1, 1.5, float("nan")):
        with refuses(UsageError, "the weight is .*; give a number from 0"):
            merge(folders / "base", [folders / "bass"], weight, folders / "merged")
    with refuses(UsageError, "drums is there already"):
        merge(folders / "base", [folders / "bass"], 0.5, folders / "drums")
    with refuses(UsageError, "no specialist to merge"):
        merge(folders / "base", [], 0.5, folders / "merged")
    assert not (folders / "merged").exists()


def test_on_the_command_line(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["merge", str(folders / "base"), str(folders / "bass"), "--output", str(folders / "merged")]
    assert main([*arguments, "--weight", "0.3"]) == 0
    assert "0.7 of " in capsys.readouterr().out
    assert main([*arguments, "--weight", "2"]) == 2


def test_each_channel_has_the_thresholds_of_the_specialist_that_listens_to_it() -> None:
    base = small_model()
    head = base.config.frame_head
    assert head is not None

    def specialist(channel: int, threshold: float) -> YourMT3:
        model = small_model([channel])
        thresholds = tuple(threshold if each == channel else 0.9 for each in range(13))
        model.config = replace(model.config, frame_head=replace(head, onset_thresholds=thresholds))
        return model

    merged = interpolate(base, [specialist(4, 0.7), specialist(12, 0.2)], 0.5, [4, 12]).config.frame_head
    assert merged is not None
    assert (merged.onset_thresholds[4], merged.onset_thresholds[12], merged.onset_thresholds[0]) == (0.7, 0.2, 0.4)
    assert interpolate(base, [specialist(4, 0.7)], 0.0, [4]).config == base.config
