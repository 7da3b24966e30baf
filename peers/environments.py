"""An environment of its own for each peer: `.venv-peers/<peer>`, made from `peers/<peer>.lock` when missing or outdated.

Nothing of a peer enters our environment or the repository: pip fetches its wheel, and git ignores the folder.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stemscribe.atomic import sha256_file
from stemscribe.errors import DataError

HERE = Path(__file__).parent
ROOT = Path(".venv-peers")
READY = ".ready"  # holds the hash of the lock that the environment was made from


@dataclass(frozen=True)
class Peer:
    """A transcriber of somebody else, and how to start it."""

    name: str
    title: str
    wheel: str  # the requirement that brings its weights

    @property
    def lock(self) -> Path:
        """Exact versions of everything in its environment."""
        return HERE / f"{self.name}.lock"

    @property
    def runner(self) -> Path:
        """The script that runs it there."""
        return HERE / f"run_{self.name}.py"


PEERS = {
    "harmonica": Peer("harmonica", "Harmonica medium", "harmonica-amt==0.3.0"),
    "basic_pitch": Peer("basic_pitch", "Basic Pitch", "basic-pitch==0.4.0"),
}


def python_of(peer: Peer, root: Path = ROOT) -> Path:
    """The interpreter of a peer's environment, which is made if need be.

    Raises:
        DataError: if a package cannot be had; no half-made environment is taken for a whole one.
    """
    folder, digest = root / peer.name, sha256_file(peer.lock)
    python, ready = folder / "bin/python", folder / READY
    if ready.is_file() and ready.read_text(encoding="utf-8") == digest:
        return python
    print(f"making {folder} for {peer.wheel}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run(peer, [sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    torch = re.findall(r"^torch==\S+", peer.lock.read_text(encoding="utf-8"), re.MULTILINE)
    if torch:  # first and alone, with what its build for this machine needs
        _run(peer, [*pip, *torch])
    _run(peer, [*pip, "--no-deps", "--ignore-requires-python", "--requirement", str(peer.lock)])
    ready.write_text(digest, encoding="utf-8")
    return python


def _run(peer: Peer, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        reason = next((line.removeprefix("ERROR: ") for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        others = " ".join(name for name in PEERS if name != peer.name)
        raise DataError(
            f"cannot install {peer.wheel} and what it needs ({reason.strip()}); go online and run again, or leave it out: "
            f"python peers/compare.py --peers {others}"
        )
