"""Stage `corpus`: the music that everything else works on, in the layout of Slakh2100, at data/raw/<corpus>.

The demo is rendered there. Slakh2100 and babyslakh stay where they are unpacked; data/raw then only lists their tracks.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import stemscribe
from stemscribe import runtime
from stemscribe.config import load_params
from stemscribe.corpora.archive import take_corpus
from stemscribe.corpora.demo import build_demo, demo_songs
from stemscribe.corpora.planning import identities
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.errors import UsageError
from stemscribe.stages import run_stage

RAW = Path("data/raw")
PROVENANCE = Path(stemscribe.__file__).parent / "weights" / "small" / "provenance.json"


def reads(stem: str | None = None) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("corpus", "demo")


def main(argv: Sequence[str]) -> None:
    """Make the corpus that params.yaml names."""
    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}; corpus.name in params.yaml selects the corpus")
    params = load_params(reads())
    source = read_source(params.corpus.name)
    output = RAW / source.name
    if isinstance(source, WheelSource):
        songs = demo_songs(source, params.demo, params.corpus.seed)
        _warn_of_leaks(identities(songs))
        build_demo(output, source, songs, params.demo, params.corpus.seed, runtime.workers())
    else:
        take_corpus(output, source, params.corpus.seed)


def _warn_of_leaks(split: Mapping[str, Sequence[str]]) -> None:
    """Say so if the shipped base was trained on songs that are to test or validate, given by their note content.

    Songs are told apart by all of their notes, so another arrangement of a song that it heard is not counted. With the seed and
    the sizes that the repository has there is none: `make base` looked for those as well.
    """
    heard = set(json.loads(PROVENANCE.read_text(encoding="utf-8"))["heard"])
    leaked = {name: len(heard.intersection(split[name])) for name in ("validation", "test")}
    if any(leaked.values()):
        print(
            f"warning: the shipped base was trained on {leaked['test']} of the test songs and {leaked['validation']} of the "
            "validation songs, so its scores are flattered; go back to the corpus.seed and demo.* of the repository, or train "
            "another base with `make base`",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(run_stage(main))
