"""Fine-tuning a base on one stem, as a Lightning module.

A Lightning epoch is `validate_every` steps: it ends with a validation and a checkpoint, so a killed run loses one epoch at
most, and the next epoch's crops follow from its number alone. Dropout is drawn from a seed of (seed, step): a resumed run
takes the very steps that the uninterrupted one would have taken.
"""

import math
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.utils.data import DataLoader

from stemscribe.audio import SAMPLE_RATE
from stemscribe.config import FRAMES, FinetuneParams, StemTuning
from stemscribe.data.crops import BLEED_RANGE_DB, Batch, StemCrops, collate
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.notes import clip_notes, shift_notes
from stemscribe.scoring.drums import drum_counts
from stemscribe.scoring.notes import onset_counts
from stemscribe.training.losses import LossWeights, batch_losses
from stemscribe.training.schedule import adamw
from stemscribe.training.thresholds import Excerpt, Listening, onset_scores
from stemscribe.transcriber import Transcriber
from stemscribe.vocabulary import is_drums

MONITOR = "validation/onset_f1"


def excerpts(shards: ShardReader, mix: ShardReader, track: ShardTrack, seconds: float, bleed_db: float) -> list[Excerpt]:
    """The first `seconds` of a track from its first note on: once as it is, and once with bleed.

    A specialist will hear separated stems, so it is chosen by what it makes of both.

    Args:
        shards: of the stem.
        mix: the full mixes; what they have beside the stem is what bleeds.
        track: a track with notes of the stem.
        seconds: length at most.
        bleed_db: level of the rest of the mix.
    """
    notes = shards.notes(track)
    start = int(max(notes[0].onset - 0.1, 0.0) * SAMPLE_RATE)
    length = min(int(seconds * SAMPLE_RATE), track.samples - start)
    begin, end = start / SAMPLE_RATE, (start + length) / SAMPLE_RATE
    heard = shift_notes(clip_notes([note for note in notes if note.onset >= begin], end), -begin)
    clean = shards.audio(track, start, length)
    rest = mix.audio(track.track, start, length) - clean
    bled = np.asarray(clean + 10 ** (bleed_db / 20) * rest, dtype=np.float32)
    return [Excerpt(audio, heard) for audio in (clean, bled)]


class SpecialistTraining(pl.LightningModule):
    """Teaches `model` the stem of `shards`.

    Args:
        model: the base, with the stem's channels; its batch-norm statistics are frozen here.
        shards: audio and notes of the stem.
        mix: audio of the full mixes, for bleed.
        shared: settings of all stems.
        own: settings of this stem.
        decode: how notes are read when validating.
        seed: decides crops and dropout.
    """

    def __init__(
        self,
        model: YourMT3,
        shards: ShardReader,
        mix: ShardReader,
        shared: FinetuneParams,
        own: StemTuning,
        decode: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self._shards, self._mix, self._shared, self._own, self._seed = shards, mix, shared, own, seed
        self._weights = LossWeights.of(shared)
        self._decode, self._programs = decode, shards.manifest["programs"]
        self._transcriber = Transcriber(model, self._programs, decode)
        self._drums = is_drums(self._programs)
        self._excerpts = list(self._heard(shared.validation_seconds))
        self.steps = own.steps
        self.steps_per_epoch = min(shared.validate_every, own.steps)
        self.epochs = math.ceil(own.steps / self.steps_per_epoch)
        self.batch_size = shared.batch_size
        model.prune = True
        model.freeze_batch_norm()
        model.freeze(shared.freeze)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Crops of the coming epoch; counted by steps, since a resumed Lightning may still call the epoch by its old number."""
        size = self.batch_size
        steps = max(1, min(self.steps_per_epoch, self.steps - self.global_step))  # the last epoch may be shorter
        crops = self._crops(first=self.global_step * size, count=steps * size)
        return DataLoader(crops, size, collate_fn=collate)  # type: ignore[arg-type]

    def rehearse(self, size: int, device: str) -> None:
        """A step with `size` crops that teaches nothing; it tells whether there is memory for it.

        Lightning takes the model off the device when a training ends, however it ends, so it is moved there again. AdamW's two
        moments of each weight are not in the rehearsal: where it only just goes through, one crop less may be needed.
        """
        crops = self._crops(first=0, count=size)
        batch = collate([crops[index] for index in range(size)])
        try:
            self.model.to(device)
            batch_losses(self.model, Batch(*(part.to(device) for part in batch)), self._weights).total.backward()  # type: ignore[no-untyped-call]
        finally:
            self.model.zero_grad()

    def _crops(self, first: int, count: int) -> StemCrops:
        shared = self._shared
        reads = (self._shards, self._mix, "train", self.model.config, shared.augment, shared.channels_per_crop, self._seed)
        return StemCrops(*reads, first=first, count=count)

    def val_dataloader(self) -> DataLoader[int]:
        """The number of one validation excerpt at a time."""
        return DataLoader(range(len(self._excerpts)), batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Loss of one batch."""
        torch.manual_seed(self._seed * 1_000_003 + self.global_step)
        losses = batch_losses(self.model, batch, self._weights)
        self.log("train/loss", losses.total.detach(), prog_bar=True)
        self.log_dict({"train/token_loss": losses.tokens, "train/frame_loss": losses.frames})
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return losses.total

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the validation before."""
        self._scores: list[list[float]] = []

    def validation_step(self, number: int, batch_index: int) -> None:
        """Onset F1 of one excerpt; read by the frame head, one for each onset threshold that could be chosen."""
        self._scores.append(self._scores_of(self._transcriber, self._excerpts[number]))

    def on_validation_epoch_end(self) -> None:
        """The validation's score: the mean over excerpts, with the threshold that is best for all of them."""
        score = float(np.mean(self._scores, axis=0).max())
        self.log(MONITOR, score, sync_dist=True, prog_bar=True)

    def _scores_of(self, transcriber: Transcriber, excerpt: Excerpt) -> list[float]:
        """Onset F1 of an excerpt: by frames one for each onset threshold, by tokens one alone."""
        if self._decode == FRAMES:
            return onset_scores(transcriber, excerpt, self._drums)
        estimate = list(transcriber.transcribe(excerpt.audio).notes)
        return [(drum_counts if self._drums else onset_counts)(list(excerpt.notes), estimate).f1]

    def score(self, device: str) -> float:
        """Onset F1 as in validation, with the weights that the model holds."""
        self.model.eval()
        transcriber = Transcriber(self.model, self._programs, self._decode, device)
        scores = [self._scores_of(transcriber, excerpt) for excerpt in self._excerpts]
        return float(np.mean(scores, axis=0).max())

    def listen(self, device: str) -> Listening:
        """What the frame head says of `threshold_seconds` of each validation track, for choosing its thresholds."""
        self.model.eval()
        heard = self._heard(self._shared.threshold_seconds)
        return Listening.of(self.model, self._programs, heard, self._drums, device)

    def _heard(self, seconds: float) -> Iterator[Excerpt]:
        """Excerpts of all validation tracks that have the stem."""
        tracks = [track for track in self._shards.tracks("validation") if self._shards.notes(track)]
        level = self._shared.augment.bleed_db - BLEED_RANGE_DB / 2
        return chain.from_iterable(excerpts(self._shards, self._mix, track, seconds, level) for track in tracks)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear warmup and a cosine, moved every step."""
        shared, own = self._shared, self._own
        return adamw(self.model, own.learning_rate, shared.weight_decay, shared.warmup_steps, own.steps)
