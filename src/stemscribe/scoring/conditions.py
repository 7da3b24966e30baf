"""Who heard what: the four conditions under which a stem is transcribed, and a fifth that no ear is needed for.

    base_mix               A   the base hears the full mix; of its notes, those that can be the stem's count
    base_stem              B   the base, restricted to the stem's channels, hears the true stem
    specialist_stem        B   the specialist hears the true stem: its upper bound
    specialist_separated   C   the specialist hears the stem as separated from the mix: the headline
    shuffled_time              the notes of C, turned by 37 % of the track around its end: what is right by chance

Each is read by every head of the model, `tokens` and `frames`, and scored for each head by itself. On the mix the token decoder
names instrument classes, and those of the stem count (`vocabulary.own_classes`). The frame head knows channels, and voices from
instruments: of what it hears in the mix, the stem's kinds on the stem's channels count.

A test track without a reference note of the stem stays out of means over tracks, and counts for false notes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from stemscribe.config import FRAMES, HEADS, TOKENS
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import Note, load_notes
from stemscribe.vocabulary import SUNG, channel_of, is_drums, own_classes

BASE_MIX, BASE_STEM = "base_mix", "base_stem"
SPECIALIST_STEM, SPECIALIST_SEPARATED = "specialist_stem", "specialist_separated"
SHUFFLED_TIME = "shuffled_time"
BASE_CONDITIONS = (BASE_MIX, BASE_STEM)
CONDITIONS = (*BASE_CONDITIONS, SPECIALIST_STEM, SPECIALIST_SEPARATED)
HEADLINE = SPECIALIST_SEPARATED
SPLIT = "test"
TURN = 0.37  # of a track's length; far from the halves, thirds and quarters in which music repeats

TITLES: Mapping[str, str] = {
    BASE_MIX: "base on the mix",
    BASE_STEM: "base on the true stem",
    SPECIALIST_STEM: "specialist on the true stem",
    SPECIALIST_SEPARATED: "specialist on the separated stem",
    SHUFFLED_TIME: "chance (shuffled time)",
}
HEAD_TITLES: Mapping[str, str] = {TOKENS: "token decoder", FRAMES: "frame head"}


@dataclass(frozen=True)
class TestTrack:
    """A track to score, with what the stem truly plays in it."""

    __test__ = False  # pytest shall not collect it

    track: str
    seconds: float
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class StemTest:
    """Everything needed to score one stem by one head: its tracks, and the notes predicted under each condition."""

    stem: str
    head: str
    programs: tuple[int, ...]
    tracks: tuple[TestTrack, ...]
    predictions: Mapping[str, Mapping[str, Sequence[Note]]]  # condition -> track -> notes

    @property
    def drums(self) -> bool:
        """Whether pitches name drums."""
        return is_drums(self.programs)

    @cached_property
    def with_notes(self) -> tuple[TestTrack, ...]:
        """The tracks that enter means."""
        return tuple(track for track in self.tracks if track.notes)


def prediction_folder(condition: str, stem: str, head: str, root: Path = Path("predictions")) -> Path:
    """Where the predict stages leave the notes that a head found under a condition."""
    return (
        root
        / {
            BASE_MIX: Path("base/mix"),
            BASE_STEM: Path("base") / stem,
            SPECIALIST_STEM: Path(stem) / "stem",
            SPECIALIST_SEPARATED: Path(stem) / "separated",
        }[condition]
        / head
    )


def heads_of(
    stem: str, first: str, conditions: Iterable[str] = CONDITIONS, predictions: Path = Path("predictions")
) -> list[str]:
    """The heads by which a stem was read, `first` before the others.

    Args:
        stem: name of the stem.
        first: the head that the headline speaks of.
        conditions: where to look.
        predictions: folder of predictions.

    Raises:
        UsageError: if there are predictions, but none by the first.
    """
    found = [head for head in HEADS if any(prediction_folder(each, stem, head, predictions).is_dir() for each in conditions)]
    if found and first not in found:
        raise UsageError(
            f"{predictions} has no notes of {stem} by {first}: the model has no such head; set predict.decode: {found[0]}"
        )
    return [first, *(head for head in found if head != first)]


def read_stem_test(
    stem: str,
    head: str,
    conditions: Iterable[str] = CONDITIONS,
    shards: Path = Path("data/shards"),
    predictions: Path = Path("predictions"),
) -> StemTest:
    """Read reference and predicted notes of a stem's test tracks.

    Args:
        stem: name of the stem.
        head: which of its readings, a name in `HEADS`.
        conditions: which of `CONDITIONS` to read; with the headline comes the shuffled-time baseline.
        shards: folder of prepared stems.
        predictions: folder of predictions.

    Raises:
        DataError: if a file is missing or broken, a prediction lacks a track, or no test track has a note of
        the stem.
    """
    reader = ShardReader(shards / stem)
    tracks = tuple(
        TestTrack(track.track, track.samples / reader.sample_rate, tuple(reader.notes(track.track)))
        for track in reader.tracks(SPLIT)
    )
    if not any(track.notes for track in tracks):
        raise DataError(f"no {SPLIT} track in {reader.folder} has a note of {stem}: nothing to score; choose a larger corpus")
    test = StemTest(stem, head, tuple(reader.manifest["programs"]), tracks, {})
    predicted = {
        condition: _read_predictions(prediction_folder(condition, stem, head, predictions), condition, test)
        for condition in conditions
    }
    if HEADLINE in predicted:
        predicted[SHUFFLED_TIME] = {track.track: turned(predicted[HEADLINE][track.track], track.seconds) for track in tracks}
    return replace(test, predictions=predicted)


def _read_predictions(folder: Path, condition: str, test: StemTest) -> dict[str, list[Note]]:
    path = folder / "notes.npz"
    stage = "predict_base" if condition in BASE_CONDITIONS else f"predict_{test.stem}"
    try:
        found = load_notes(path)
    except DataError as error:
        raise DataError(f"{error}; `dvc repro {stage}` or `dvc pull` brings it back") from error
    missing = [track.track for track in test.tracks if track.track not in found]
    if missing:
        raise DataError(f"{path} lacks {missing[0]} ({len(missing)} of {len(test.tracks)} tracks); run `dvc repro {stage}`")
    notes = {track.track: found[track.track] for track in test.tracks}
    if condition == BASE_MIX:
        return {track: _of_stem(heard, test.programs, test.head) for track, heard in notes.items()}
    return notes


def _of_stem(notes: Iterable[Note], programs: tuple[int, ...], head: str) -> list[Note]:
    """The notes that can be the stem's, out of all that a head heard in the mix."""
    if head == FRAMES:
        kinds = set(map(_kind, programs))
        return [note for note in notes if _kind(note.program) in kinds]
    named = own_classes(programs)
    return [note for note in notes if note.program in named]


def _kind(program: int) -> tuple[int | None, bool]:
    """All that the frame head knows of an instrument."""
    return channel_of(program), program in SUNG


def turned(notes: Iterable[Note], seconds: float, share: float = TURN) -> list[Note]:
    """The same notes, later by a share of the track's length; what passes the end comes in again at the beginning."""
    return [
        replace(note, onset=onset, offset=onset + note.offset - note.onset)
        for note in notes
        for onset in ((note.onset + share * seconds) % seconds,)
    ]
