"""`stemscribe <verb>`: the stages under their own names, and what a musician wants of a trained model.

Heavy libraries are imported by the verb that needs them, so that `--help` answers at once.
"""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import stemscribe
from stemscribe.errors import DataError, UsageError

STAGES = {
    "corpus": "Fetch or render the corpus that params.yaml names.",
    "index": "List tracks, stems and notes of the corpus; apply its errata.",
    "prepare": "Write the memory-mapped audio of one stem, or of the mix.",
    "base": "Put the base model in place.",
    "finetune": "Fine-tune the base on one stem.",
    "separate": "Take the test mixes apart.",
    "predict": "Decode the test tracks with the base or one specialist.",
    "evaluate": "Score one stem's predictions.",
    "poc": "Ask whether an isolated stem beats the mix.",
    "report": "Write the page with all results.",
}

STEM_STAGES = {  # what these stages are asked for; the others take no argument
    "prepare": "bass, drums, vocals, other or mix",
    "finetune": "bass, drums, vocals or other",
    "predict": "base, bass, drums, vocals or other",
    "evaluate": "bass, drums, vocals or other",
}

CLIPPED_SHARE = 0.001  # of the samples, above which it is said

app = typer.Typer(
    name="stemscribe",
    help="Turn one pretrained music transcriber into four stem specialists, and transcribe with them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(stemscribe.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def _add_stage(name: str, text: str) -> None:
    stems = STEM_STAGES.get(name)
    about = f"{text} (stage of dvc.yaml; `dvc repro` runs it when needed)"

    # Whatever is given goes to the stage, which knows best what is wrong with it.
    @app.command(
        name,
        help=f"{about}\n\nSTEM is {stems}." if stems else about,
        options_metavar="STEM [OPTIONS]" if stems else "[OPTIONS]",
        context_settings={"allow_extra_args": True},
        rich_help_panel="Stages",
    )
    def run(context: typer.Context) -> None:
        importlib.import_module(f"stemscribe.stages.{name}").main(context.args)


@app.command(rich_help_panel="Use")
def transcribe(
    audio: Annotated[Path, typer.Argument(help="a recording: WAV, FLAC, OGG, MP3, AIFF", show_default=False)],
    model: Annotated[
        list[Path] | None,
        typer.Option(help="model folder, once or more (default: the specialists in models/)", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="MIDI file to write (default: beside the recording)")
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(
            help="tokens or frames (default: frames where the model has a frame head that was taught)", show_default=False
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="quantise the token decoder: faster on CPUs, some notes differ (docs/model.md)")
    ] = False,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="the frame head hears half as much: faster, some notes at borders differ")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the notes as JSON")] = False,
) -> None:
    """Write the notes of a recording as MIDI, with one or several models."""
    from stemscribe import runtime
    from stemscribe.audio import SAMPLE_RATE, clipped_share, read_audio, recording_length
    from stemscribe.checkpoint import load_model, load_programs
    from stemscribe.config import FRAMES, HEADS, TOKENS
    from stemscribe.midi import write_midi
    from stemscribe.model.initialisation import has_untaught_head
    from stemscribe.notes import Note, clean_notes
    from stemscribe.transcriber import Transcriber

    if decode not in (None, *HEADS):
        raise UsageError(f"--decode is {decode!r}; give tokens or frames")
    if int8 and decode == FRAMES:
        raise UsageError("--int8 is for the token decoder; leave it out, or decode tokens")
    if no_overlap and int8:
        raise UsageError("--int8 is for the token decoder and --no-overlap for the frame head; leave one of them out")
    if no_overlap and decode == TOKENS:
        raise UsageError("--no-overlap is for the frame head; leave it out, or decode frames")
    runtime.settle_torch()
    folders = model or _specialists()
    if not audio.is_file():
        raise DataError(f"no such file {audio}; check the path")
    target = output or audio.with_suffix(".mid")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file in it with --output")
    if output is None and target.exists():
        raise UsageError(f"{target} is there already; name it with --output to replace it, or name another")
    place = next(parent for parent in target.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise UsageError(f"{place} is no folder that can be written; name another place with --output")
    if target.exists() and audio.exists() and target.samefile(audio):
        raise UsageError(f"{target} is the recording itself; name another file with --output")
    recording = read_audio(audio)
    if (rate := recording_length(audio).rate) != SAMPLE_RATE:
        print(f"{audio}: resampled from {rate} Hz to {SAMPLE_RATE} Hz", file=sys.stderr)
    if (clipped := clipped_share(recording)) > CLIPPED_SHARE:
        print(f"{audio}: {clipped:.1%} of it is clipped, notes may be wrong; a quieter recording is better", file=sys.stderr)
    listeners: list[tuple[Path, str, Transcriber]] = []  # all of them are there before the first one listens
    for folder in folders:
        network = load_model(folder)
        taught = network.frame_head is not None and (decode is not None or not has_untaught_head(network))
        head = decode or (FRAMES if taught and not int8 else TOKENS)
        if no_overlap and head == TOKENS:
            kind = "none" if network.frame_head is None else "none that was taught"
            raise UsageError(f"--no-overlap is for the frame head, and {folder} has {kind}; leave it out")
        if head == FRAMES and network.frame_head is None:
            raise UsageError(f"--decode frames is for the frame head, and {folder} has none; leave it out")
        listener = Transcriber(network, load_programs(folder), head, runtime.device(), int8, not no_overlap)
        listeners.append((folder, head, listener))
    notes: list[Note] = []
    for folder, head, listener in listeners:
        found = listener.transcribe(recording).notes
        print(f"{folder}: {len(found)} notes ({head})", file=sys.stderr)
        notes.extend(found)
    notes = clean_notes(notes)
    write_midi(target, notes)
    if as_json:
        fields = ("onset", "offset", "pitch", "program")
        print(json.dumps([{name: getattr(note, name) for name in fields} for note in notes]))
    else:
        print(f"{target}: {len(notes)} notes in {len(recording) / SAMPLE_RATE:.1f} s of audio")


@app.command(rich_help_panel="Use")
def score(
    reference: Annotated[Path, typer.Argument(help="the true notes, as MIDI", show_default=False)],
    estimate: Annotated[Path, typer.Argument(help="the notes to score, as MIDI", show_default=False)],
    drums: Annotated[bool, typer.Option("--drums", help="score drum hits instead of pitched notes")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the scores as JSON")] = False,
) -> None:
    """Score a MIDI file against another: onset, onset+offset and frame F1."""
    from stemscribe.scoring import files

    card = files.score_files(reference, estimate, drums)
    print(json.dumps(files.as_json(card), indent=1) if as_json else files.as_text(card))


@app.command("import-checkpoint", rich_help_panel="Use")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="the Lightning checkpoint of YPTF.MoE+Multi, a .ckpt", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="model folder to write")] = Path("models/yourmt3"),
    as_json: Annotated[bool, typer.Option("--json", help="print what was imported as JSON")] = False,
) -> None:
    """Write the published YourMT3+ checkpoint as a model folder; nothing in it is run."""
    from stemscribe import lightning_checkpoint

    imported = lightning_checkpoint.import_checkpoint(file, output)
    if as_json:
        print(json.dumps(imported, indent=1))
    else:
        print(lightning_checkpoint.as_text(imported, output))


@app.command(rich_help_panel="Use")
def merge(
    base: Annotated[Path, typer.Argument(help="the model folder from which the specialists began", show_default=False)],
    specialists: Annotated[list[Path], typer.Argument(help="their model folders, one or more", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="model folder to write", show_default=False)],
    weight: Annotated[float, typer.Option(help="of the specialists: 0 gives the base, 1 the specialist")] = 0.5,
) -> None:
    """Write a model between a base and its specialists, against forgetting; no training, no data."""
    from stemscribe import merging

    merging.merge(base, specialists, weight, output)
    print(f"{output}: {1 - weight:g} of {base} and {weight:g} of {', '.join(map(str, specialists))}")


@app.command(rich_help_panel="Use")
def verify(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="folders of shards (default: all in data/shards and data/separated)")
    ] = None,
) -> None:
    """Compare prepared audio with the sha256 that its manifest has for each file."""
    from stemscribe.data.shards import MANIFEST, verify_shards

    kept = (Path("data", kind) for kind in ("shards", "separated"))
    found = folders or [path.parent for folder in kept for path in sorted(folder.glob(f"[!.]*/{MANIFEST}"))]
    if not found:
        raise DataError("no shards in data/; `dvc repro prepare_bass` or `dvc pull data/shards/bass`, or name a folder")
    for folder in found:
        print(f"{folder}: {verify_shards(folder):,} bytes as they should be")


def _specialists() -> list[Path]:
    from stemscribe.stages import STEMS

    found = [Path("models") / stem for stem in STEMS if (Path("models") / stem / "model.safetensors").is_file()]
    if not found:
        raise DataError("no model in models/; `dvc pull models/bass`, `make repro`, or name a folder with --model")
    return found


for _name, _text in STAGES.items():
    _add_stage(_name, _text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for failure, 2 for wrong use."""
    from stemscribe.stages import INTERRUPTED, run_stage

    def run(arguments: Sequence[str]) -> None:
        try:
            code = app(args=list(arguments) or ["--help"], standalone_mode=False)
        except typer.TyperException as error:
            raise UsageError(f"{error.format_message().rstrip('.')}; see `stemscribe --help`") from None
        if code == INTERRUPTED:  # typer makes a return value of Ctrl-C
            raise KeyboardInterrupt

    return run_stage(run, argv)


if __name__ == "__main__":
    sys.exit(main())
