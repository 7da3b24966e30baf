"""`python -m witness`, or `make parity`: is our model the reference, at full size, to rounding?

For each seed the reference runs in its own environment and writes down what it computed, and our model is compared. Then the
reference's trainer writes a checkpoint, which `stemscribe import-checkpoint` must turn into the same model. One table, and exit
code 1 with a line if anything misses its tolerance.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from stemscribe.checkpoint import load_model
from stemscribe.errors import CheckpointError, StemscribeError
from stemscribe.lightning_checkpoint import import_checkpoint
from witness.compare import WHOLE, Findings, compare, load_full, relative
from witness.music import SEGMENTS, render_segments

FOLDER = Path("build/parity")
REFERENCE = Path(".venv-reference/bin/python")
SEEDS = (1, 2, 3)


class ParityError(StemscribeError):
    """Our model is not the reference."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print the table; 0 if all is equal within the tolerances."""
    parser = argparse.ArgumentParser(prog="python -m witness", description=main.__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the random weights (default: 1 2 3)")
    seeds = list(dict.fromkeys(parser.parse_args(argv).seeds))
    try:
        if not REFERENCE.is_file():
            raise StemscribeError("the reference has no environment yet; `make reference` builds it")
        music = FOLDER / "music.safetensors"
        if not music.is_file():
            FOLDER.mkdir(parents=True, exist_ok=True)
            render_segments(music)
        print(f"{SEGMENTS} segments of a demo song, random weights of seed {', '.join(map(str, seeds))}\n", flush=True)
        findings = {seed: _seed(seed, music) for seed in seeds}
        _print_table(findings)
        misses = [f"seed {seed}: {miss}" for seed, found in findings.items() for miss in found.misses]
        misses += _checkpoint(music)
        if misses:
            raise ParityError("; ".join(misses))
    except StemscribeError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 1
    print("\nparity holds")
    return 0


def _reference(module: str, *arguments: str | Path) -> None:
    """Run a module of the witness in the reference's environment."""
    log = FOLDER / "reference.log"
    with open(log, "w", encoding="utf-8") as stream:
        command = [str(REFERENCE), "-m", module, *map(str, arguments)]
        if subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode:
            last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
            raise StemscribeError(f"the reference does not run ({last}); all it said is in {log}")


def _seed(seed: int, music: Path) -> Findings:
    folder, begin = FOLDER / f"seed-{seed}", time.monotonic()
    _reference("witness.reference", "--music", music, "--seed", str(seed), "--output", folder)
    found = compare(folder, music)
    shutil.rmtree(folder)
    print(f"seed {seed}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return found


def _print_table(findings: dict[int, Findings]) -> None:
    print(f"| stage | size (rms) | {' | '.join(f'seed {seed}' for seed in findings)} | worst | tolerance |")
    print("|---" * (len(findings) + 4) + "|")
    for lines in zip(*(found.deviations for found in findings.values()), strict=True):
        numbers = " | ".join(f"{line.found:.1e}" for line in lines)
        worst = max(line.found for line in lines)
        print(f"| {lines[0].name} | {lines[0].size:.3g} | {numbers} | {worst:.1e} | {lines[0].tolerance:.0e} |")
    print(f"\n| greedy tokens | compared | different | streams left at a tie below {WHOLE:.0e} | smallest gap |")
    print("|---|---|---|---|---|")
    for lines in zip(*(found.tokens for found in findings.values()), strict=True):
        compared, different, left = (sum(getattr(line, name) for line in lines) for name in ("compared", "different", "left"))
        print(f"| {lines[0].name} | {compared} | {different} | {left} | {min(line.smallest_gap for line in lines):.1e} |")
    print(f"\nleast preference of a router: {min(found.router_margin for found in findings.values()):.1e}", flush=True)


def _checkpoint(music: Path) -> list[str]:
    """A checkpoint of the reference's own trainer, imported by the command; what went wrong."""
    folder = FOLDER / "lightning"
    shutil.rmtree(folder, ignore_errors=True)
    _reference("witness.lightning", "full", "--music", music, "--output", folder)
    file, output = folder / "last.ckpt", folder / "imported"
    print(f"\n{file.name} of the reference's trainer: {file.stat().st_size:,} bytes", flush=True)
    command = [sys.executable, "-c", "import sys; from stemscribe.cli import main; sys.exit(main())", "import-checkpoint"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([*command, str(file), "--output", str(output), "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"import-checkpoint refuses the reference's own file: {done.stderr.strip()}"]
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    imported = json.loads(done.stdout)
    print(f"imported in {seconds:.1f} s of CPU as {imported['model']}, left out: {', '.join(imported['dropped_entries'])}")
    misses = _same_model(output, folder)
    _reference("witness.lightning", "variants", "--music", music, "--output", folder / "variants")
    misses += _refused(folder / "variants")
    shutil.rmtree(folder)
    return misses


def _same_model(imported: Path, folder: Path) -> list[str]:
    """Weights and logits of an imported folder against what the reference's module held and computed."""
    model, witness = load_model(imported), load_full(folder / "weights.safetensors")
    record = load_file(folder / "record.safetensors")
    misses = [
        f"{key} is not the number in the checkpoint"
        for key, value in witness.state_dict().items()
        if not torch.equal(value, model.state_dict()[key])
    ]
    with torch.no_grad():
        logits, expected = (each(record["waveform"], record["labels"]) for each in (model, witness))
        deviation = relative(model.training_logits(logits), record["training_logits"])
    if not torch.equal(logits, expected):
        misses.append("the imported model computes other logits than the same weights without the checkpoint")
    if not deviation <= WHOLE:
        misses.append(f"the imported model's logits deviate {deviation:.1e} from the reference's, more than {WHOLE:.0e}")
    if not misses:
        print(f"655 tensors and the logits equal to the last bit; {deviation:.1e} from the reference's own logits", flush=True)
    return misses


def _refused(folder: Path) -> list[str]:
    """Other members of the family must be refused by their name."""
    misses = []
    for file in sorted(folder.glob("*.ckpt")):
        try:
            import_checkpoint(file, folder / "imported")
        except CheckpointError as error:
            named = f"is {file.stem} (" in str(error)
            print(f"{file.stem}: refused{'' if named else ', but not by its name'}: {str(error).partition(' is ')[2]}")
            if named:
                continue
        misses.append(f"{file.stem} is not refused by its name")
    return misses


if __name__ == "__main__":
    sys.exit(main())
