"""Fine-tuning is repeatable to the last bit, survives being killed, and never hands over something worse than the base."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from shard_band import UNVARIED, write_band, write_mix
from stemscribe import interruption
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.config import FinetuneParams, StemTuning
from stemscribe.data.crops import Batch
from stemscribe.data.shards import ShardReader
from stemscribe.errors import CheckpointError, StemscribeError
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.stages.finetune import specialist_of
from stemscribe.training import run as training_run
from stemscribe.training import specialist
from stemscribe.training.losses import Losses
from stemscribe.training.resumable import LAST, locked
from stemscribe.training.run import BASE, BASE_SCORE, BEST, Outcome, train
from stemscribe.training.specialist import MONITOR, SpecialistTraining
from stemscribe.transcriber import Transcriber, Transcription
from tiny_model import small_model

SHARED = FinetuneParams(
    batch_size=2,
    channels_per_crop=4,
    warmup_steps=1,
    weight_decay=0.01,
    gradient_clip=1.0,
    validate_every=2,
    validation_seconds=3,
    threshold_seconds=3,
    patience=5,
    shares=(1.0,),
    freeze="none",
    frame_head_weight=0.3,
    voice_weight=0.3,
    alignment_weight=0.3,
    shift_smoothing=(0.4, 0.24, 0.06),
    augment=replace(UNVARIED, transpose=1, gain_db=3, noise_db=-60, drop_source=0.2, bleed_share=0.5),
)
OWN = StemTuning(learning_rate=1e-3, steps=4)

pytestmark = pytest.mark.filterwarnings("ignore:::pytorch_lightning", "ignore:::dvclive")


@pytest.fixture(scope="module")
def bass(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("shards")
    write_mix(folder / "mix")
    return write_band(folder / "bass")


def lesson(shards: ShardReader, seed: int = 1, own: StemTuning = OWN, shared: FinetuneParams = SHARED) -> SpecialistTraining:
    mix = ShardReader(shards.folder.parent / "mix")
    return SpecialistTraining(specialist_of(small_model(), [4]), shards, mix, shared, own, "frames", seed)


def run(module: SpecialistTraining, folder: Path) -> tuple[dict[str, Tensor], Outcome]:
    with locked(folder):
        outcome = train(module, folder, "cpu", SHARED.patience, SHARED.gradient_clip)
    return module.model.state_dict(), outcome


def newest(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / LAST, weights_only=True)["state_dict"]
    return weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def first_run(bass: ShardReader, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("work") / "run"
    _, outcome = run(lesson(bass), folder)
    return folder, outcome


def test_a_run_takes_its_steps_and_keeps_curves_and_checkpoints(first_run: tuple[Path, Outcome]) -> None:
    folder, outcome = first_run
    assert outcome.steps == 4
    assert outcome.resumed_at == 0
    assert {"last.ckpt", "best.ckpt", "dvclive"} <= set(os.listdir(folder))
    curve = (folder / "dvclive/plots/metrics/train/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "1", "2", "3", "4"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path
) -> None:
    run(lesson(bass), tmp_path / "again")
    assert same(newest(first_run[0]), newest(tmp_path / "again"))


def test_another_seed_gives_other_weights(bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path) -> None:
    run(lesson(bass, seed=2), tmp_path / "other")
    assert not same(newest(first_run[0]), newest(tmp_path / "other"))


def test_a_killed_run_goes_on_to_the_same_weights(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    step = SpecialistTraining.training_step

    def dies_in_the_third_step(self: SpecialistTraining, batch: object, index: int) -> Tensor:
        if self.global_step == 3:
            raise RuntimeError("killed")
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SpecialistTraining, "training_step", dies_in_the_third_step)
        with pytest.raises(RuntimeError, match="killed"):
            run(lesson(bass), folder)
    _, outcome = run(lesson(bass), folder)
    assert outcome.resumed_at == 2
    assert same(newest(first_run[0]), newest(folder))
    curve = (folder / "dvclive/plots/metrics/train/loss.tsv").read_text()
    assert curve == (first_run[0] / "dvclive/plots/metrics/train/loss.tsv").read_text()


def test_a_run_that_is_stopped_while_it_settles_settles_alike(
    bass: ShardReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(name: str) -> tuple[dict[str, Tensor], Outcome]:
        module = lesson(bass, own=StemTuning(learning_rate=1e-3, steps=2))
        with locked(tmp_path / name):
            found = train(module, tmp_path / name, "cpu", SHARED.patience, SHARED.gradient_clip, shares=(0.0, 0.5, 1.0))
        return module.model.state_dict(), found

    score = training_run._score_of_base
    monkeypatch.setattr(training_run, "_score_of_base", lambda *given: min(score(*given), 0.0))  # no step is worse
    weights, settled = outcome("whole")

    def stopped(self: SpecialistTraining, device: str) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SpecialistTraining, "score", stopped)
        with pytest.raises(KeyboardInterrupt):
            outcome("stopped")
    again, after = outcome("stopped")
    assert (after.resumed_at, after.share, after.scores) == (2, settled.share, settled.scores)
    assert set(after.scores) == {"0", "0.5", "1"}
    assert same(again, weights)


def test_ctrl_c_comes_out_of_a_training_as_ctrl_c(bass: ShardReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: SpecialistTraining, *_: object) -> Tensor:
        raise KeyboardInterrupt

    for hook in ("training_step", "validation_step"):
        with monkeypatch.context() as patch:
            patch.setattr(SpecialistTraining, hook, interrupted)
            with pytest.raises(KeyboardInterrupt):  # Lightning alone leaves with SystemExit and no word
                run(lesson(bass), tmp_path / hook)


def test_a_request_while_an_epoch_opens_is_heard(bass: ShardReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lightning tidies up, asks the loaders that are not open yet for their length, and leaves with a RuntimeError
    def interrupted(self: DataLoader[Batch]) -> Iterator[Batch]:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not heard")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), interruption.watching():
        patch.setattr(DataLoader, "__iter__", interrupted)
        run(lesson(bass), tmp_path)


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full_when_there_is_one(self: Path, content: bytes) -> int:
        if self.name == f".{LAST}.partial" and (self.parent / LAST).exists():
            write(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_when_there_is_one)
        with pytest.raises(StemscribeError, match=r"cannot write .*last\.ckpt: No space left on device; free some space"):
            run(lesson(bass), tmp_path)
    assert not list(tmp_path.glob(".*"))
    _, outcome = run(lesson(bass), tmp_path)
    assert outcome.resumed_at == 2
    assert same(newest(first_run[0]), newest(tmp_path))


def test_a_disk_without_space_for_the_curves_is_one_line(
    bass: ShardReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dvclive.plots.metric.Metric.dump", full)
    with pytest.raises(StemscribeError, match=f"cannot write {tmp_path}: No space left on device; free some space"):
        run(lesson(bass), tmp_path)


def test_a_run_goes_on_from_curves_that_were_being_written(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path
) -> None:
    run(lesson(bass, own=StemTuning(learning_rate=1e-3, steps=2)), tmp_path)
    curves = tmp_path / "dvclive"
    (curves / "metrics.json").write_text("")
    (curves / "plots/metrics/train/loss.tsv").write_text("st")
    _, outcome = run(lesson(bass), tmp_path)
    assert (outcome.resumed_at, outcome.steps) == (2, 4)
    assert json.loads((curves / "metrics.json").read_text())["step"] == 4
    curve = (curves / "plots/metrics/train/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "3", "4"]


def test_a_damaged_checkpoint_is_named_with_the_way_out(bass: ShardReader, tmp_path: Path) -> None:
    run(lesson(bass, own=StemTuning(learning_rate=1e-3, steps=2)), tmp_path)
    whole = (tmp_path / LAST).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK"):
        (tmp_path / LAST).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"last\.ckpt is damaged; remove {tmp_path} to train from the start"):
            run(lesson(bass), tmp_path)


def test_a_run_that_stopped_early_stays_stopped(bass: ShardReader, tmp_path: Path) -> None:
    def outcome() -> Outcome:
        with locked(tmp_path):
            return train(lesson(bass, own=StemTuning(learning_rate=1e-12, steps=20)), tmp_path, "cpu", 1, 1.0)

    first = outcome()
    assert first.steps == 4  # one validation for the record, one without a better score
    weights = newest(tmp_path)
    again = outcome()
    assert (again.steps, again.resumed_at) == (4, 4)
    assert same(weights, newest(tmp_path))


def test_a_run_takes_no_more_steps_than_it_was_given(bass: ShardReader, tmp_path: Path) -> None:
    _, outcome = run(lesson(bass, own=StemTuning(learning_rate=1e-3, steps=3)), tmp_path / "run")
    assert outcome.steps == 3
    _, outcome = run(lesson(bass, own=StemTuning(learning_rate=1e-3, steps=3)), tmp_path / "run")
    assert (outcome.steps, outcome.resumed_at) == (3, 3)


def test_a_second_process_is_kept_out_of_a_run(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(StemscribeError, match="another process trains in"), locked(tmp_path / "run"):
        pass


def test_a_specialist_equals_its_base_before_the_first_step() -> None:
    base = small_model().eval()
    specialist = specialist_of(base, [4, 12]).eval()
    waveform = 0.1 * torch.randn(2, base.config.segment_samples, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(1, 596, (2, 2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(specialist(waveform, tokens), base(waveform, tokens, [4, 12]))
        everywhere = tokens[:, :1].expand(-1, 13, -1).clone()
        everywhere[:, 4], everywhere[:, 12] = tokens[:, 0], tokens[:, 1]
        assert torch.equal(specialist(waveform, tokens), base(waveform, everywhere)[:, [4, 12]])


def test_frozen_batch_norm_statistics_stay(bass: ShardReader, first_run: tuple[Path, Outcome]) -> None:
    before = small_model().state_dict()
    after = {key.removeprefix("model."): value for key, value in newest(first_run[0]).items()}
    statistics = [key for key in before if "running_" in key]
    assert statistics
    assert all(torch.equal(before[key], after[key]) for key in statistics)
    assert not torch.equal(before["frame_head.linear.weight"], after["frame_head.linear.weight"])


def test_weights_that_training_made_worse_are_not_kept(bass: ShardReader, tmp_path: Path) -> None:
    module = lesson(bass, own=StemTuning(learning_rate=1e-3, steps=2))
    folder = tmp_path / "worse"
    folder.mkdir()
    torch.save(module.model.state_dict(), folder / BASE)
    (folder / BASE_SCORE).write_text('{"validation/onset_f1": 1.0}')  # nothing can beat a perfect base
    weights, outcome = run(module, folder)
    assert outcome.share == 0.0
    assert outcome.best_score == 1.0
    assert same(weights, small_model().state_dict())


@pytest.mark.parametrize(("scores", "kept"), [((0.6, 0.5), 0.25), ((0.5, 0.6), 0.75), ((0.504, 0.5), 0.75)])
def test_of_weights_between_base_and_specialist_the_best_in_validation_are_kept(
    bass: ShardReader,
    first_run: tuple[Path, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: tuple[float, float],
    kept: float,
) -> None:
    ended = tmp_path / "ended"
    shutil.copytree(first_run[0], ended)
    (ended / BASE_SCORE).write_text('{"validation/onset_f1": 0.0}')  # whatever it learned is better than this base
    told = iter(scores)
    monkeypatch.setattr(SpecialistTraining, "score", lambda module, device: next(told))
    module = lesson(bass)
    outcome = train(module, ended, "cpu", SHARED.patience, SHARED.gradient_clip, shares=(0.25, 0.75))
    base, best = small_model().state_dict(), torch.load(ended / BEST, weights_only=True)["state_dict"]
    assert outcome.share == kept
    assert outcome.scores == {"0": 0.0, "0.25": scores[0], "0.75": scores[1]}
    for name, weight in module.model.state_dict().items():
        start, end = base[name].double(), best[f"model.{name}"].double()
        assert torch.allclose(weight.double(), start + kept * (end - start), atol=1e-6)


def test_half_way_may_beat_a_base_that_no_step_has_beaten(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tmp_path / "ended"
    shutil.copytree(first_run[0], ended)
    (ended / BASE_SCORE).write_text('{"validation/onset_f1": 0.98}')  # better than the best step
    monkeypatch.setattr(SpecialistTraining, "score", lambda module, device: 0.99)
    outcome = train(lesson(bass), ended, "cpu", SHARED.patience, SHARED.gradient_clip, shares=(0.5, 1.0))
    assert outcome.share == 0.5
    assert outcome.scores.keys() == {"0", "0.5", "1"}  # the base is a candidate, asked for or not


def test_what_validation_has_read_is_not_read_again(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tmp_path / "ended"
    shutil.copytree(first_run[0], ended)
    (ended / BASE_SCORE).write_text('{"validation/onset_f1": 0.0}')
    monkeypatch.setattr(SpecialistTraining, "score", lambda module, device: pytest.fail("read again"))
    outcome = train(lesson(bass), ended, "cpu", SHARED.patience, SHARED.gradient_clip, shares=(0.0, 1.0))
    best = torch.load(ended / BEST, weights_only=True)["validation_score"]
    assert outcome.scores == {"0": 0.0, "1": round(best, 4)}


def test_the_score_of_a_share_is_that_of_validation(bass: ShardReader) -> None:
    module = lesson(bass)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    (found,) = trainer.validate(module, verbose=False)
    assert module.score("cpu") == pytest.approx(found[MONITOR])


def test_a_base_that_is_kept_keeps_its_thresholds_whatever_the_best_weights_hold(
    bass: ShardReader, first_run: tuple[Path, Outcome], tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    shutil.copytree(first_run[0], ended)
    (ended / BASE_SCORE).write_text('{"validation/onset_f1": 0.0}')
    best = torch.load(ended / BEST, weights_only=True)
    for weight in best["state_dict"].values():
        weight.fill_(torch.nan if weight.is_floating_point() else 0)
    torch.save(best, ended / BEST)
    module = lesson(bass)
    outcome = train(module, ended, "cpu", SHARED.patience, SHARED.gradient_clip, shares=(0.0,))
    assert outcome.share == 0.0
    assert same(module.model.state_dict(), small_model().state_dict())
    assert module.model.config == small_model().config


def test_tokens_decide_where_they_are_what_is_judged(bass: ShardReader, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = ShardReader(bass.folder.parent / "mix")
    module = SpecialistTraining(specialist_of(small_model(), [4]), bass, mix, SHARED, OWN, "tokens", 1)
    assert module.listen("cpu").heard  # the frame head gets thresholds all the same

    def by_tokens(transcriber: Transcriber, audio: Audio) -> Transcription:
        (notes,) = {tuple(each.notes) for each in module._excerpts if each.audio is audio}
        return Transcription(notes, len(audio) / SAMPLE_RATE)

    monkeypatch.setattr(Transcriber, "hear_frames", None)  # a call would fail
    monkeypatch.setattr(Transcriber, "transcribe", by_tokens)
    assert module.score("cpu") == 1.0


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(
    bass: ShardReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = specialist.batch_losses

    def little_memory(model: YourMT3, batch: Batch, *rest: object) -> Losses:
        if len(batch.waveform) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return true(model, batch, *rest)

    monkeypatch.setattr(specialist, "batch_losses", little_memory)
    with pytest.raises(StemscribeError, match=r"training on 2 segments at a time; 1 fit: set finetune\.batch_size to 1"):
        run(lesson(bass), tmp_path / "run")
