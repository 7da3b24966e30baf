"""Training the small base, as a Lightning module.

From scratch two things happen in turn. First encoder and frame head learn alone (`frames_first`): they need no decoder, and it
would only slow them down. Then the decoder starts with a geometry of time that it shares with the encoder's frames
(`structured_time`), fitted to the scale that the encoder's states have reached, and everything learns together. A model that
has learned before goes on with all of it.
"""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.utils.data import DataLoader

from stemscribe import vocabulary
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.config import FRAMES, HEADS
from stemscribe.data.crops import Batch, collate
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.model.initialisation import TimeTokens, initialise_decoder, rescale_memory
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.notes import DRUM_PROGRAM, Note, clip_notes
from stemscribe.pretraining.crops import GeneralistCrops, stem_group
from stemscribe.pretraining.params import ScratchParams, TrainParams
from stemscribe.pretraining.partners import Partners, Share
from stemscribe.scoring.drums import drum_counts
from stemscribe.scoring.notes import onset_counts
from stemscribe.stages import STEMS
from stemscribe.training.losses import LossWeights, batch_losses
from stemscribe.training.schedule import adamw
from stemscribe.transcriber import Transcriber, Transcription

SCALE_BATCHES = 4  # batches over which the scale of the encoder's states is measured
MEMORY_SCALE = 0.5  # RMS of the states at which the decoder starts, a little below that of the positions
SHIFTS = TimeTokens(vocabulary.SHIFT_0, vocabulary.MAX_SHIFT + 1, 1 / vocabulary.TICKS_PER_SECOND)


class GeneralistTraining(pl.LightningModule):
    """Teaches `model` all channels from the sources in `shards`.

    Args:
        model: with a frame head; freshly initialised if the recipe is `ScratchParams`.
        shards: all sources of the training and validation songs.
        train: the recipe.
        seed: decides crops and dropout.
        partners: who work on the other shares of each batch.
    """

    def __init__(
        self, model: YourMT3, shards: ShardReader, train: TrainParams, seed: int, partners: Partners | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self._shards, self._train, self._seed = shards, train, seed
        self._partners = partners
        self._share = Share(0, 1 + (len(partners) if partners else 0))
        self._weights = LossWeights.of(train)
        self.steps_per_epoch = min(train.validate_every, train.steps)
        self.epochs = -(-train.steps // self.steps_per_epoch)
        self._decoder_starts = -1  # before the first step
        self._time: TimeTokens | None = None
        if isinstance(train, ScratchParams):
            self._decoder_starts = round(train.frames_first * train.steps / self.steps_per_epoch) * self.steps_per_epoch
            self._time = SHIFTS if train.structured_time else None
        self._validation = shards.tracks("validation")
        model.prune = True

    def train_dataloader(self) -> DataLoader[Batch]:
        """Crops of the coming epoch; counted by steps, since a resumed Lightning may still call the epoch by its old number."""
        total = self._train.steps * self._train.batch_size
        crops = GeneralistCrops(self._shards, self.model.config, self._train, self._seed, first=0, count=total, total=total)
        steps = max(1, min(self.steps_per_epoch, self._train.steps - self.global_step))  # the last epoch may be shorter
        numbers = [list(self._share.crops(self.global_step + step, self._train.batch_size)) for step in range(steps)]
        return DataLoader(crops, batch_sampler=numbers, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[int]:
        """The number of one validation track at a time."""
        return DataLoader(range(len(self._validation)), batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Loss of one batch."""
        if self.global_step == self._decoder_starts:
            self._start_decoder()
        with_tokens = self.global_step >= self._decoder_starts
        if self._partners:
            self._partners.start(self.global_step, with_tokens)
        torch.manual_seed(self._share.seed(self._seed, self.global_step))
        losses = batch_losses(self.model, batch, self._weights, with_tokens)
        parts = {"token_loss": losses.tokens, "frame_loss": losses.frames, "alignment_loss": losses.alignment}
        self.log_dict({f"train/{name}": value for name, value in parts.items()})
        self.log("train/loss", losses.total.detach(), prog_bar=True)
        return losses.total

    def on_after_backward(self) -> None:
        """The mean of the gradients of all shares."""
        if self._partners:
            self._partners.add_gradients(self.model)

    def _start_decoder(self) -> None:
        loader = iter(self.train_dataloader())
        self.model.eval()
        with torch.no_grad():
            squares = [
                self.model.encode(batch.waveform.to(self.device), batch.channels.to(self.device)).square().mean()
                for batch, _ in zip(loader, range(SCALE_BATCHES), strict=False)
            ]
        self.model.train()
        rescale_memory(self.model, MEMORY_SCALE / float(torch.stack(squares).mean().sqrt()))
        initialise_decoder(self.model, self._time, torch.Generator().manual_seed(self._seed))

    def validation_step(self, number: int, batch_index: int) -> None:
        """Onset F1 of each stem group of one track, by the heads that learn and in the mix; an epoch's score is the mean."""
        track = self._validation[number]
        heads = HEADS if self.global_step > self._decoder_starts else (FRAMES,)
        samples = min(int(self._train.validation_seconds * SAMPLE_RATE), track.samples)
        everything = list(range(len(track.sources)))
        mix = list(self._read(self._shards.audio(track, 0, samples, everything), None, (FRAMES,))[FRAMES].notes)
        for group in STEMS:
            members = [index for index, source in enumerate(track.sources) if stem_group(source.program) == group]
            reference = self._reference(track, members, samples / SAMPLE_RATE)
            if not reference:
                continue
            audio = self._shards.audio(track, 0, samples, members)
            heard = {head: list(found.notes) for head, found in self._read(audio, group_programs(group), heads).items()}
            heard["mix"] = [note for note in mix if stem_group(note.program) == group]
            for name, found in heard.items():
                counts = (drum_counts if group == "drums" else onset_counts)(reference, found)
                self.log(f"validation/{group}_{name}", counts.f1, batch_size=1, on_epoch=True)

    def _read(self, audio: Audio, programs: Sequence[int] | None, heads: Sequence[str]) -> dict[str, Transcription]:
        return Transcriber(self.model, programs, device=self.device.type).transcribe_by_head(audio, heads)

    def _reference(self, track: ShardTrack, members: Sequence[int], seconds: float) -> list[Note]:
        by_source = self._shards.notes_by_source(track)
        return clip_notes([note for index in members for note in by_source[index]], seconds)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear warmup and a cosine, moved every step."""
        train = self._train
        return adamw(self.model, train.learning_rate, train.weight_decay, train.warmup_steps, train.steps)


def group_programs(group: str) -> list[int]:
    """The programs of a stem group that have a channel."""
    programs = range(DRUM_PROGRAM + 1)
    return [p for p in programs if vocabulary.channel_of(p) is not None and stem_group(p) == group]
