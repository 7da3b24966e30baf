"""Runs a model folder of ours as the peers are run: `python peers/run_stemscribe.py AUDIO OUT --model models/bass ...`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import runner

from stemscribe.errors import StemscribeError

ALL = "all"


def main() -> None:
    """Transcribe a folder."""
    parser = runner.arguments("Transcribe a folder of recordings with a model folder of ours.")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--decode", default="tokens", help="tokens or frames")
    parser.add_argument("--programs", default=ALL, help=f"programs to listen for, as 32,33,34; {ALL}: whatever the model knows")
    options = parser.parse_args()
    import torch

    from stemscribe import runtime
    from stemscribe.audio import read_audio
    from stemscribe.checkpoint import load_model
    from stemscribe.transcriber import Transcriber

    torch.set_num_threads(runtime.threads())
    programs = None if options.programs == ALL else [int(program) for program in options.programs.split(",")]
    transcriber = Transcriber(load_model(options.model), programs, options.decode, options.device)

    def transcribe(path: Path) -> Iterator[runner.HeardNote]:
        for note in transcriber.transcribe(read_audio(path)).notes:
            yield note.onset, note.offset, note.pitch, note.velocity, note.program

    runner.run(transcribe, options.audio, options.out)


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"stemscribe: {error}")
