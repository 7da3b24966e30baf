"""The demo corpus: real band songs out of a wheel, rendered with a soundfont that a package brings along.

Which songs are chosen, who tests and who sings is a function of the parameters, the seed and the notes themselves.
"""

from pathlib import Path

from stemscribe import runtime
from stemscribe.config import DemoParams
from stemscribe.corpora.planning import Splits, plan_tracks, split_songs
from stemscribe.corpora.soundfont import find_soundfont
from stemscribe.corpora.sources import WheelSource
from stemscribe.corpora.tracks import build_corpus
from stemscribe.corpora.wheel import wheel_songs


def demo_songs(source: WheelSource, params: DemoParams, seed: int) -> Splits:
    """The demo's whole songs by split; downloads the wheel if need be."""
    songs = wheel_songs(source.wheel, runtime.downloads_dir())
    return split_songs(songs, params.songs, params.validation, params.test, seed)


def build_demo(output: Path, source: WheelSource, songs: Splits, params: DemoParams, seed: int, workers: int) -> None:
    """Render the demo corpus of `demo_songs` into `output`."""
    tracks = plan_tracks(songs, params.seconds, params.voiced_share, seed)
    build_corpus(output, source.name, tracks, find_soundfont(source.soundfont), source.licence, workers)
