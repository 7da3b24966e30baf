"""Our YourMT3 against the wheel yourmt3 0.1.4: full size, the same weights, the same music, fp32, two threads, CPU time.

    make reference                       # once: the environment with the wheel, .venv-reference
    python benchmarks/model.py           # half an hour; --part encoding|training|memory|decoding for one part
    python benchmarks/model.py --shards DIR   # music from elsewhere than data/shards

Run it in the project's environment: it takes the music from the shards (`dvc repro` makes them) and starts itself again in the
reference's. Both sides are timed in turns in one process, medians are compared; peak memory is that of a process for each
side, and knows nothing of --keep-memory. It prints Markdown for docs/benchmarks.md.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[1]
WITNESS = REPOSITORY / ".venv-reference" / "bin" / "python"
PARTS = ("encoding", "training", "memory", "decoding")
THREADS = 2
ENVIRONMENT = {
    "OMP_NUM_THREADS": str(THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}",
}


def main() -> None:
    """Prepare the music, then measure in the reference's environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--shards", type=Path, default=REPOSITORY / "data" / "shards", help="folder of the stems' shards")
    parser.add_argument("--keep-memory", action="store_true", help="both sides keep freed memory, as the graph's stages do")
    parser.add_argument("--music", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak_bytes(given.music, *given.peak))
    elif given.music:
        measure(given.music, given.part or PARTS, given.repeats, given.keep_memory)
    else:
        sys.exit(_in_reference_environment(given.shards))


def _in_reference_environment(shards: Path) -> int:
    if not WITNESS.exists():
        sys.exit("no .venv-reference here; `make reference` builds it")
    if not shards.exists() or not (shards / "mix").exists():
        sys.exit(f"no shards of music in {shards}; `dvc repro` makes them, or name a folder with --shards")
    from music import write_music

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "music.npz"
        write_music(shards, path)
        command = [str(WITNESS), __file__, *sys.argv[1:], "--music", str(path)]
        return subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=False).returncode


def measure(path: Path, parts: tuple[str, ...] | list[str], repeats: int, keep_memory: bool) -> None:
    """Measure the parts and print the table."""
    import torch
    from comparison import Ratio, Sides, table
    from reference import Reference

    from stemscribe import runtime

    if keep_memory:
        runtime.settle_torch()
    torch.set_num_threads(THREADS)
    music = np.load(path)
    ours = our_model()
    sides = Sides(
        ours,
        Reference(ours.state_dict()),
        *(torch.from_numpy(music[name]) for name in ("stem", "mix")),
        channel=int(music["channel"]),
        tokens=torch.from_numpy(music["tokens"]),
        repeats=repeats,
        stems={
            stem: (torch.from_numpy(music[f"audio_{stem}"]), tuple(music[f"channels_{stem}"].tolist()))
            for stem in ("bass", "drums", "vocals", "other")
        },
    )
    ratios: list[Ratio] = []
    for part in parts:
        print(f"{part}:", flush=True)
        if part == "memory":
            ratios += memory(path)
        else:
            ratios += importlib.import_module(part).measure(sides)
    print(f"\nMusic: {music['track']}; torch {torch.__version__}, {torch.get_num_threads()} threads.\n\n{table(ratios)}")


def our_model():  # type: ignore[no-untyped-def]  # torch is imported where it is needed
    """FULL with reproducible weights of the usual scales, evaluation mode."""
    import torch

    from stemscribe.model import FULL, YourMT3
    from stemscribe.model.initialisation import TimeTokens, initialise

    model = YourMT3(FULL)
    initialise(model, TimeTokens(first=3, count=206, tick_seconds=0.01), torch.Generator().manual_seed(1))
    return model.eval()


def memory(path: Path):  # type: ignore[no-untyped-def]
    """Peak memory of a training step, a process for each side and case."""
    from comparison import Ratio, said
    from training import CASES

    ratios = []
    for case in (case for case in CASES if case.memory_target is not None):
        ours, theirs = (
            int(
                subprocess.run(
                    [sys.executable, __file__, "--music", str(path), "--peak", side, case.name],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            / 1e9
            for side in ("ours", "reference")
        )
        ratios.append(said(Ratio(f"peak memory, {case.what}", ours, theirs, "GB", case.memory_target)))
    return ratios


def peak_bytes(path: Path, side: str, case_name: str) -> int:
    """Highest resident size of this process while it takes training steps."""
    import torch
    from training import CASES, step_of

    torch.set_num_threads(THREADS)
    music = np.load(path)
    (case,) = [case for case in CASES if case.name == case_name]
    step: Callable[[], object] = step_of(side, case, our_model(), music)
    for _ in range(2):
        step()
    # Not `ru_maxrss`: a child inherits the peak of the process that started it.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


if __name__ == "__main__":
    main()
