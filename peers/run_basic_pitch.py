"""Runs Basic Pitch, in its own environment: `.venv-peers/basic_pitch/bin/python peers/run_basic_pitch.py AUDIO OUT`.

Its ONNX weights travel in its wheel; thresholds and shortest note are its own defaults.
"""

from collections.abc import Iterator
from pathlib import Path

import runner


def main() -> None:
    """Transcribe a folder."""
    options = runner.arguments("Transcribe a folder of recordings with Basic Pitch.").parse_args()
    import onnxruntime  # type: ignore[import-not-found]
    from basic_pitch import ICASSP_2022_MODEL_PATH  # type: ignore[import-not-found]
    from basic_pitch.inference import Model, predict  # type: ignore[import-not-found]

    model = Model(ICASSP_2022_MODEL_PATH)
    # The same weights once more: as many threads as everybody, and none that burns time while it waits.
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = runner.threads()
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model.model = onnxruntime.InferenceSession(str(ICASSP_2022_MODEL_PATH), session, providers=["CPUExecutionProvider"])

    def transcribe(path: Path) -> Iterator[runner.HeardNote]:
        _, _, events = predict(path, model)
        for onset, offset, pitch, amplitude, _ in events:
            yield float(onset), float(offset), int(pitch), max(1, min(127, round(127 * float(amplitude)))), 0

    runner.run(transcribe, options.audio, options.out)


if __name__ == "__main__":
    main()
