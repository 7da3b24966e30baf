"""Stage `thresholds` of pretrain/dvc.yaml: from which probability on the trained base's answers are notes.

It stands apart from the training, so that another way of reading does not ask for other weights.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stemscribe import runtime
from stemscribe.audio import SAMPLE_RATE
from stemscribe.checkpoint import load_model, load_provenance, save_model
from stemscribe.data.shards import MANIFEST, NOTES, ShardReader, ShardTrack
from stemscribe.errors import UsageError
from stemscribe.notes import clip_notes
from stemscribe.pretraining.crops import stem_group
from stemscribe.pretraining.generalist import group_programs
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.pretraining.refine import REFINED
from stemscribe.pretraining.train import SHARDS
from stemscribe.provenance import describe, hashes
from stemscribe.stages import STEMS, run_stage
from stemscribe.training.thresholds import Excerpt, Listening, choose_thresholds

MODEL = Path("model")


def main(argv: Sequence[str]) -> None:
    """Write model/: the weights of refined/, and thresholds chosen on the validation songs."""
    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}")
    params = load_pretrain_params()
    runtime.settle_torch()
    model, shards = load_model(REFINED), ShardReader(SHARDS)
    tracks = shards.tracks("validation")
    head = model.config.frame_head
    assert head is not None
    stems = []
    for group in STEMS:
        heard = [excerpt for track in tracks for excerpt in excerpts(shards, track, group, params.thresholds.seconds)]
        stems.append(Listening.of(model, group_programs(group), heard, group == "drums", runtime.device()))
    model.config = replace(model.config, frame_head=choose_thresholds(head, stems))
    chosen = describe({"thresholds": params.thresholds}, hashes(SHARDS / MANIFEST, SHARDS / NOTES))
    save_model(MODEL, model, {**load_provenance(REFINED), "thresholds": chosen})


def excerpts(shards: ShardReader, track: ShardTrack, group: str, seconds: float) -> list[Excerpt]:
    """The beginning of a track, the stem group alone and everything, with the group's notes; none if it is silent.

    Args:
        shards: all sources, each on its own.
        track: one of theirs.
        group: a name in `STEMS`.
        seconds: length at most.
    """
    samples = min(int(seconds * SAMPLE_RATE), track.samples)
    everything = list(range(len(track.sources)))
    members = [index for index in everything if stem_group(track.sources[index].program) == group]
    by_source = shards.notes_by_source(track)
    reference = clip_notes([note for index in members for note in by_source[index]], samples / SAMPLE_RATE)
    if not reference:
        return []
    return [Excerpt(shards.audio(track, 0, samples, sources), reference) for sources in (members, everything)]


if __name__ == "__main__":
    sys.exit(run_stage(main))
