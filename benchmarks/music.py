"""The music that the model is timed with: segments of a test track, a stem by itself and the mix, with their tokens.

Run in the project's environment (it reads shards); what it writes is read in the reference's, which has no audio libraries.
"""

from pathlib import Path

import numpy as np

from stemscribe.data.shards import ShardReader
from stemscribe.model import FULL
from stemscribe.tokenizer import EventTable, Tokenizer

STEMS = ("bass", "drums", "vocals", "other")
STEM = "bass"
SEGMENTS = 8


def write_music(shards: Path, path: Path) -> None:
    """Write the busiest test track with a bass.

    `stem`, `mix` and `audio_<stem>` are `(8, N)` float32, `channel` and `channels_<stem>` numbers, `tokens` `(8, 13, 256)`.
    """
    readers = {stem: ShardReader(shards / stem) for stem in STEMS}
    mix, samples = ShardReader(shards / "mix"), FULL.segment_samples
    names = [track.track for track in mix.tracks("test") if track.samples >= SEGMENTS * samples]
    having = {stem: {track.track for track in reader.tracks("test")} for stem, reader in readers.items()}
    notes = {
        name: [note for stem in STEMS if name in having[stem] for note in readers[stem].notes(name)]
        for name in names
        if name in having[STEM]
    }
    chosen = max(sorted(notes), key=lambda name: len(notes[name]))
    tokens = Tokenizer(max_length=FULL.max_length).encode(EventTable(notes[chosen]), SEGMENTS, range(FULL.channels))

    def segments(reader: ShardReader) -> np.ndarray:
        return reader.audio(chosen, 0, SEGMENTS * samples).reshape(SEGMENTS, samples)

    channel = readers[STEM].manifest["channels"][0]
    four = {f"audio_{stem}": segments(reader) for stem, reader in readers.items()}
    four |= {f"channels_{stem}": np.array(reader.manifest["channels"]) for stem, reader in readers.items()}
    np.savez(path, **four, stem=segments(readers[STEM]), mix=segments(mix), channel=channel, tokens=tokens, track=chosen)
