"""Real music for the comparison: segments of a demo song, and their true tokens. Runs in our environment.

One song of the demo corpus is rendered by the corpus code itself, so a fresh clone needs nothing but the wheel that this code
downloads. The segments are those with the most tokens.
"""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from stemscribe import runtime
from stemscribe.atomic import atomic_file
from stemscribe.audio import read_audio
from stemscribe.config import load_params
from stemscribe.corpora.demo import demo_songs
from stemscribe.corpora.planning import plan_tracks
from stemscribe.corpora.soundfont import find_soundfont
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.corpora.tracks import build_corpus
from stemscribe.data.slakh import read_track
from stemscribe.errors import DataError
from stemscribe.midi import read_midi
from stemscribe.model import FULL
from stemscribe.tokenizer import EventTable, Tokenizer
from stemscribe.vocabulary import PAD

SEGMENTS = 2


def render_segments(path: Path) -> None:
    """Write `waveform (B, N)` and `labels (B, 13, 256)` to a safetensors file.

    Raises:
        DataError: if the wheel with the songs cannot be had.
    """
    params = load_params(("corpus", "demo"))
    source = read_source("demo")
    if not isinstance(source, WheelSource):
        raise DataError("data/sources/demo.yaml describes no wheel of songs")
    print("rendering a song of the demo corpus", file=sys.stderr, flush=True)
    splits = demo_songs(source, params.demo, params.corpus.seed)
    song = plan_tracks({"test": splits["test"]}, params.demo.seconds, params.demo.voiced_share, params.corpus.seed)[0]
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        build_corpus(corpus, "demo", [song], find_soundfont(source.soundfont), source.licence, runtime.workers())
        track = read_track(corpus / song.split / song.track)
        assert track.mix is not None
        audio = torch.from_numpy(read_audio(track.mix))
        notes = [note for stem in track.stems if stem.midi for note in read_midi(stem.midi, stem.program, stem.is_drum)]
    tokenizer = Tokenizer(FULL.segment_samples, FULL.sample_rate, FULL.max_length)
    segments = audio.unfold(0, FULL.segment_samples, FULL.segment_samples)
    labels = torch.from_numpy(tokenizer.encode(EventTable(notes), len(segments), range(FULL.channels)))
    busiest = (labels != PAD).sum(dim=(1, 2)).topk(SEGMENTS).indices
    with atomic_file(path) as partial:
        save_file({"waveform": segments[busiest].contiguous(), "labels": labels[busiest].contiguous()}, partial)
