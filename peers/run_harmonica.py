"""Runs Harmonica, in its own environment: `.venv-peers/harmonica/bin/python peers/run_harmonica.py AUDIO OUT`.

The weights travel in its wheel, with the thresholds that its makers chose; nothing is set here but the size of the model.
"""

from collections.abc import Iterator
from pathlib import Path

import runner


def main() -> None:
    """Transcribe a folder."""
    parser = runner.arguments("Transcribe a folder of recordings with Harmonica.")
    parser.add_argument("--model", default="medium", help="nano, small, medium, large or x-large")
    options = parser.parse_args()
    from harmonica import Harmonica  # type: ignore[import-not-found]

    model = Harmonica(options.model, device=options.device)

    def transcribe(path: Path) -> Iterator[runner.HeardNote]:
        notes = model.transcribe(path)
        for onset, offset, pitch, velocity in zip(notes.onsets, notes.offsets, notes.pitches, notes.velocities, strict=True):
            yield float(onset), float(offset), int(pitch), int(velocity), 0

    runner.run(transcribe, options.audio, options.out)


if __name__ == "__main__":
    main()
