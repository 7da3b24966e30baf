"""Look at every track of a corpus once: which stems are usable, what they play, and what is odd about them.

Nothing odd passes silently. A stem without audio or without MIDI, a stem without notes and a track without bass are
facts of life and go into the audit; a file that cannot be read is an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stemscribe.audio import recording_length
from stemscribe.corpora.inventory import SPLITS, Inventory, InventoryTrack
from stemscribe.corpora.sources import Errata
from stemscribe.data import duplicates
from stemscribe.data.errata import octave_correction, reason_to_exclude
from stemscribe.data.index import Index, IndexedStem, IndexedTrack
from stemscribe.data.slakh import Stem, read_track
from stemscribe.errors import DataError
from stemscribe.executor import map_in_processes
from stemscribe.midi import read_midi
from stemscribe.notes import Columns, notes_to_columns

AUDIT_LISTS = (
    "excluded_stems",
    "octave_corrected_stems",
    "midi_without_audio",
    "audio_without_midi",
    "files_without_metadata",
    "stems_without_notes",
    "tracks_without_mix",
)
AUDIT_COUNTS = (
    "notes_after_the_audio_dropped",
    "notes_cut_at_the_end_of_the_audio",
    "notes_outside_midi_pitches_dropped",
)


@dataclass(frozen=True)
class TrackVisit:
    """Everything a worker needs to survey one track."""

    root: Path
    place: InventoryTrack
    errata: Errata


@dataclass
class TrackReport:
    """What was found in one track."""

    track: IndexedTrack
    stems: list[IndexedStem] = field(default_factory=list)
    notes: dict[str, Columns] = field(default_factory=dict)
    fingerprint: str = ""
    stem_fingerprints: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in AUDIT_LISTS})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AUDIT_COUNTS, 0))


def survey(inventory: Inventory, errata: Errata, workers: int) -> tuple[Index, dict[str, Any]]:
    """Index a corpus.

    Args:
        inventory: its tracks, and where they lie.
        errata: corrections to apply.
        workers: processes to use; the result does not depend on it.

    Returns:
        The index, sorted by split and track, and its audit.

    Raises:
        DataError: if two tracks have one name; or naming the first file that is missing or broken.
    """
    _require_names(inventory.tracks)
    places = sorted(inventory.tracks, key=lambda place: (SPLITS.index(place.split), place.track))
    visits = [TrackVisit(inventory.root, place, errata) for place in places]
    reports = map_in_processes(survey_track, visits, workers, "indexing", "tracks")
    index = Index(
        [report.track for report in reports],
        [stem for report in reports for stem in report.stems],
        {name: columns for report in reports for name, columns in report.notes.items()},
    )
    return index, _audit(index, reports)


def _require_names(tracks: Iterable[InventoryTrack]) -> None:
    """Everything from here on knows a track by its name alone."""
    folders: dict[str, str] = {}
    for place in tracks:
        if place.track in folders:
            both = f"{folders[place.track]} and {place.folder}"
            raise DataError(f"two tracks are called {place.track} ({both}); rename one, a name counts over all splits")
        folders[place.track] = place.folder


def survey_track(visit: TrackVisit) -> TrackReport:
    """Read one track: metadata, audio headers and MIDI."""
    place = visit.place
    track = read_track(visit.root / place.folder)
    lengths = {stem.name: recording_length(stem.audio) for stem in track.stems if stem.audio}
    longest = [length.seconds for length in lengths.values()]
    if track.mix:
        longest.append(recording_length(track.mix).seconds)
    report = TrackReport(IndexedTrack(track.name, place.split, max(longest, default=0.0), place.folder))
    if not track.mix:
        report.lists["tracks_without_mix"].append(track.name)
    report.lists["files_without_metadata"] += [f"{track.name}/{name}" for name in track.unlisted]
    written = [
        _survey_stem(report, stem, lengths[stem.name].seconds if stem.audio else 0.0, visit.errata)
        for stem in track.stems
        if stem.audio or stem.midi
    ]
    report.fingerprint = duplicates.fingerprint([columns for columns in written if columns is not None])
    return report


def _survey_stem(report: TrackReport, stem: Stem, seconds: float, errata: Errata) -> Columns | None:
    """Add a stem to the report; returns its notes as written, before any correction."""
    name = f"{report.track.track}/{stem.name}"
    excluded = reason_to_exclude(errata, report.track.track, stem.name)
    semitones = octave_correction(errata, stem.program, stem.plugin)
    count, written = 0, None
    if stem.audio and stem.midi:
        written = notes_to_columns(read_midi(stem.midi, program=stem.program, is_drum=stem.is_drum))
        if len(written["onset"]) >= duplicates.ENOUGH_NOTES:
            report.stem_fingerprints[name] = duplicates.fingerprint([written])
        if excluded:
            report.lists["excluded_stems"].append({"stem": name, "reason": excluded})
        else:
            sounding = _sounding(written, seconds, semitones, report.counts)
            report.notes[name] = sounding
            count = len(sounding["onset"])
            if not count:
                report.lists["stems_without_notes"].append(name)
            if semitones:
                report.lists["octave_corrected_stems"].append(name)
    else:
        report.lists["midi_without_audio" if stem.midi else "audio_without_midi"].append(name)
    report.stems.append(
        IndexedStem(
            track=report.track.track,
            stem=stem.name,
            program=stem.program,
            is_drum=stem.is_drum,
            inst_class=stem.inst_class,
            plugin=stem.plugin,
            rendered=stem.audio is not None,
            labelled=stem.midi is not None,
            notes=count,
            excluded=excluded,
        )
    )
    return written


def _sounding(written: Columns, seconds: float, semitones: int, counts: dict[str, int]) -> Columns:
    """Notes as they sound: moved by `semitones`, ended by the end of the audio; `counts` learns what that changed."""
    pitch = written["pitch"] + np.int16(semitones)
    audible = written["onset"] < seconds
    possible = (pitch >= 0) & (pitch <= 127)
    kept = audible & possible
    counts["notes_after_the_audio_dropped"] += int((~audible).sum())
    counts["notes_outside_midi_pitches_dropped"] += int((~possible).sum())
    counts["notes_cut_at_the_end_of_the_audio"] += int((kept & (written["offset"] > seconds)).sum())
    sounding = {name: column[kept] for name, column in {**written, "pitch": pitch}.items()}
    return {**sounding, "offset": np.minimum(sounding["offset"], seconds)}


def _audit(index: Index, reports: Sequence[TrackReport]) -> dict[str, Any]:
    split_of = {track.track: track.split for track in index.tracks}
    same_tracks = duplicates.groups({report.track.track: report.fingerprint for report in reports})
    same_stems = duplicates.groups({name: print_ for report in reports for name, print_ in report.stem_fingerprints.items()})
    leaks = duplicates.across_splits(same_tracks, split_of)
    usable = [stem for stem in index.stems if stem.usable]
    return {
        "tracks": {split: sum(track.split == split for track in index.tracks) for split in SPLITS},
        "seconds": round(sum(track.seconds for track in index.tracks), 3),
        "stems": {"usable": len(usable), "unusable": len(index.stems) - len(usable)},
        "notes": sum(stem.notes for stem in usable),
        "pitch_bends": "ignored: a bent note has the pitch of its key",
        "duplicate_tracks_across_splits": leaks,
        "duplicate_tracks_within_a_split": [names for names in same_tracks if names not in leaks],
        "duplicate_stems_across_splits": duplicates.across_splits(same_stems, split_of),
        **{name: sum(report.counts[name] for report in reports) for name in AUDIT_COUNTS},
        **{name: [entry for report in reports for entry in report.lists[name]] for name in AUDIT_LISTS},
    }
