"""Where a result comes from: commit, parameters, hashes of what it was made of, versions, machine, time.

`fingerprint` names a training run by everything that decides its result; only a run of the same name resumes a killed one.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import stemscribe
from stemscribe.atomic import sha256_file

PACKAGES = ("torch", "pytorch-lightning", "numpy", "scipy", "soundfile", "mir_eval", "pretty_midi", "dvc", "dvclive")
# The parts of the package that decide what a training run learns.
LEARNING_CODE = (
    "audio.py", "notes.py", "vocabulary.py", "tokenizer.py", "transcriber.py",
    "data", "model", "scoring", "training", "pretraining",
)  # fmt: skip
# The files of a repository that decide a result; others, such as dvc.lock, change while the results are made.
DECIDING_FILES = (
    ":/src", ":/params.yaml", ":/data/sources",
    ":/pretrain/params.yaml", ":/pretrain/songs.yaml", ":/pretrain/soundfonts.yaml",
)  # fmt: skip


def describe(params: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """Facts to keep beside a result.

    Args:
        params: the slice of params.yaml that decided it; dataclasses are spelled out.
        inputs: name and sha256 of each input.
    """
    return {
        "stemscribe": stemscribe.__version__,
        **git_state(),
        "params": {name: plain(value) for name, value in params.items()},
        "inputs": dict(inputs),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def hashes(*paths: Path) -> dict[str, str]:
    """sha256 of some files, by their names."""
    return {str(path): sha256_file(path) for path in paths}


def plain(value: Any) -> Any:
    """Dataclasses as plain dictionaries, anything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def git_state() -> dict[str, Any]:
    """The commit that the working tree stands on, and whether code or parameters differ from it; nulls outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "uncommitted_changes": bool(_git("status", "--porcelain", "--", *DECIDING_FILES))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "uncommitted_changes": None}


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), capture_output=True, text=True, check=True).stdout.strip()


def learning_code_hash() -> str:
    """sha256 over the source files that decide what a training run learns."""
    root = Path(stemscribe.__file__).parent
    digest = hashlib.sha256()
    for part in LEARNING_CODE:
        files = sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]
        for path in files:
            digest.update(f"{path.relative_to(root)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def fingerprint(params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Twelve hexadecimal digits that name a run by its parameters, inputs and code."""
    facts = {
        "params": {name: plain(value) for name, value in params.items()},
        "inputs": dict(inputs),
        "code": learning_code_hash(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
