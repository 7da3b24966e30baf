"""Harmonica and Basic Pitch beside our base and specialists: same songs, same samples, same scorer, one run.

    make peers                                       # the demo's test songs, as `make repro` left them
    python peers/compare.py --tracks FOLDER          # any tracks in the layout of Slakh2100
    python peers/compare.py --peers basic_pitch      # one of them
    python peers/compare.py --peers                  # none: base and specialists only

Everybody is a runner with the same arguments (audio folder in, notes and times out), started in its own environment, one
after the other. Notes stay in work/peers/<corpus>/notes/<who>/<part>. The page of everybody on everything in the test songs is
peers/results.md, any other one work/peers/<corpus>/results.md; its figures go beside it, as .json.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import PEERS, python_of
from recordings import MIX, SHARDS, Part, corpus_of, record, shards_of_tracks
from scores import Result, read_heard, scored
from table import Contest, figures, page

from stemscribe import progress, runtime
from stemscribe.atomic import atomic_file, write_json
from stemscribe.config import HEADS, TOKENS, load_params
from stemscribe.errors import DataError, StemscribeError, UsageError
from stemscribe.scoring.notes import Tolerances
from stemscribe.stages import STEMS
from stemscribe.stages.base import model_digest

HERE = Path(__file__).parent
MODELS_FOLDER, MODELS = Path("models"), ("base", *STEMS)
PARTS = (*STEMS, MIX)
ONLY_PITCHED = ("bass", "vocals", "other", MIX)  # what the peers can hear


@dataclass(frozen=True)
class Turn:
    """One transcriber on one part."""

    who: str  # title of its row
    part: str
    command: tuple[str, ...]  # interpreter and runner
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its notes are kept, below the folder of all notes."""
        return Path(self.who.replace(", ", "-").replace(" ", "_").lower()) / self.part


def main(argv: Sequence[str] | None = None) -> None:
    """Run everybody, write the page.

    Raises:
        StemscribeError: if `make repro` has not been run, a peer cannot be had, or a runner fails.
    """
    options = _parser().parse_args(argv)
    params = load_params(("seed", "evaluate"))
    tolerances = Tolerances(params.evaluate.onset_tolerance, params.evaluate.offset_ratio)
    heads = heads_of(options.models)
    name = options.tracks.resolve().name if options.tracks else corpus_of(SHARDS)
    work = options.work / name
    shards = shards_of_tracks(options.tracks, options.source, work / "shards") if options.tracks else SHARDS
    parts = record(shards, work / "audio", options.parts)
    turns = [*peer_turns(options.peers, parts), *our_turns(options.models, heads, parts)]
    results: dict[str, dict[str, Result]] = {}
    for turn in progress.track(turns, "transcribing", unit="parts"):
        part = parts[turn.part]
        if part.tracks:  # else nobody plays it here
            out = work / "notes" / turn.folder
            hear(turn, part, out, options.device)
            heard = read_heard(out, part)
            results.setdefault(turn.who, {})[turn.part] = Result(scored(part, heard.notes, tolerances), heard)
    contest = Contest(
        title=options.title,
        command=options.command or shlex.join(["python", "peers/compare.py", *(sys.argv[1:] if argv is None else argv)]),
        corpus=options.corpus
        or (f"all tracks in {options.tracks}" if options.tracks else f"the test tracks of the corpus `{name}`"),
        parts={part: recorded for part, recorded in parts.items() if recorded.tracks},
        results=results,
        pairs=pairs(list(results), [PEERS[peer].title for peer in options.peers], heads),
        machine=machine(options.device),
        models={name: model_digest(options.models / name) for name in MODELS},
        draws=params.evaluate.bootstrap_draws,
        seed=params.seed,
        tolerances=tolerances,
    )
    output = options.output or (HERE if is_complete(options, name) else work) / "results.md"
    with atomic_file(output) as text, atomic_file(output.with_suffix(".json")) as numbers:
        text.write_text(page(contest), encoding="utf-8")
        write_json(numbers, figures(contest))
    print(page(contest))
    print(f"written to {output}; the notes are in {work / 'notes'}", file=sys.stderr)


def is_complete(options: argparse.Namespace, corpus: str) -> bool:
    """Whether this is the comparison that README shows."""
    ours = corpus == "demo" and not options.tracks and options.models == MODELS_FOLDER
    return ours and set(options.peers) == set(PEERS) and set(options.parts) == set(PARTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run peers and our models on the same songs and score them alike.")
    everybody = sorted(PEERS, reverse=True)
    parser.add_argument("--peers", nargs="*", choices=everybody, default=everybody, help="which of them; no name: only ours")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is heard (default: everything)")
    parser.add_argument("--tracks", type=Path, help="folder of tracks in Slakh2100's layout (default: the test songs in data/)")
    parser.add_argument("--source", default="demo", help="name in data/sources whose errata apply to --tracks")
    parser.add_argument("--models", type=Path, default=MODELS_FOLDER, help="folder with base, bass, drums, vocals and other")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for everybody but Basic Pitch, which stays on the cpu")
    parser.add_argument("--work", type=Path, default=Path("work/peers"), help="where audio and notes are kept")
    parser.add_argument(
        "--output",
        type=Path,
        help="the page; its figures go beside it, as .json (default: results.md in peers/, if all of the "
        "demo is heard by all, else where the audio is kept)",
    )
    parser.add_argument("--title", default="Peers", help="heading of the page")
    parser.add_argument("--corpus", help="what is heard, in words, for the page")
    parser.add_argument("--command", help="what the page says that it was made by")
    return parser


def heads_of(models: Path) -> tuple[str, ...]:
    """The heads that all of base and specialists have.

    Raises:
        UsageError: if a model is not there.
        DataError: if its config.json is broken.
    """
    with_frames = True
    for name in MODELS:
        path = models / name / "config.json"
        if not path.is_file():
            raise UsageError(f"no model {models / name}: `make repro` trains it; run it first")
        try:
            with_frames &= json.loads(path.read_text(encoding="utf-8"))["model"]["frame_head"] is not None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is broken ({error}); run `dvc checkout` or `make repro`") from error
    return HEADS if with_frames else (TOKENS,)


def peer_turns(peers: Sequence[str], parts: Iterable[str]) -> list[Turn]:
    """Each peer on each part that it can hear; makes their environments."""
    turns = []
    for name in peers:
        peer = PEERS[name]
        command = (str(python_of(peer)), str(peer.runner))
        turns += [Turn(peer.title, part, command) for part in parts if part in ONLY_PITCHED]
    return turns


def our_turns(models: Path, heads: Sequence[str], parts: Mapping[str, Part]) -> list[Turn]:
    """The base on everything and the specialists on their stems, with each head."""
    turns = []
    command = (sys.executable, str(HERE / "run_stemscribe.py"))
    for head in heads:
        for part in parts:
            programs = "all" if part == MIX else ",".join(map(str, parts[part].programs))
            options = ("--decode", head, "--programs", programs)
            turns.append(Turn(f"base, {head}", part, command, ("--model", str(models / "base"), *options)))
            if part != MIX:
                turns.append(Turn(f"specialist, {head}", part, command, ("--model", str(models / part), *options)))
    return turns


def pairs(present: Sequence[str], peers: Sequence[str], heads: Sequence[str]) -> list[tuple[str, str]]:
    """Who is compared with whom: specialist and base with each peer, then the specialist with its base."""
    against = [(f"{ours}, {head}", peer) for peer in peers for ours in ("specialist", "base") for head in heads]
    own = [(f"specialist, {head}", f"base, {head}") for head in heads]
    return [pair for pair in (*against, *own) if set(pair) <= set(present)]


def hear(turn: Turn, part: Part, out: Path, device: str = "cpu") -> None:
    """Start a runner and wait for it.

    Raises:
        DataError: if it fails, with the last line it said.
    """
    threads = str(runtime.threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "STEMSCRIBE_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [*turn.command, str(part.audio), str(out), "--device", device, *turn.options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise DataError(f"{turn.who} failed on {part.audio} (it said: {said[-1]}); to see all of it: {shlex.join(command)}")


def machine(device: str) -> str:
    """Where this ran, in words."""
    threads = runtime.threads()
    return f"{threads} thread{'s' if threads > 1 else ''} on {device}, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        print(f"peers: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
