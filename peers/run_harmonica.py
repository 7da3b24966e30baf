"""Runs Harmonica, in its own environment: `.venv-peers/harmonica/bin/python peers/run_harmonica.py AUDIO OUT`.

The weights travel in its wheel, with the thresholds that its makers chose; the size is that of its default, medium. It
computes in bf16; on a processor that cannot (one without AVX-512), in fp32.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import runner


def main() -> None:
    """Transcribe a folder."""
    options = runner.arguments("Transcribe a folder of recordings with Harmonica.").parse_args()
    import torch
    from harmonica import Harmonica  # type: ignore[import-not-found]

    if options.device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        torch.autocast = functools.partial(torch.autocast, enabled=False)  # type: ignore[misc, assignment]
    model = Harmonica("medium", device=options.device)

    def transcribe(path: Path) -> Iterator[runner.HeardNote]:
        notes = model.transcribe(path)
        for onset, offset, pitch, velocity in zip(notes.onsets, notes.offsets, notes.pitches, notes.velocities, strict=True):
            yield float(onset), float(offset), int(pitch), int(velocity), 0

    runner.run(transcribe, options.audio, options.out)


if __name__ == "__main__":
    main()
