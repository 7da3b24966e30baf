"""What depends on the machine and never on the experiment: devices, workers, folders for downloads and unpacked archives.

Each setting comes from the environment (`STEMSCRIBE_WORKERS=8`), else from an untracked `runtime.yaml` (`workers: 8`), else
from the machine itself. None of them is meant to change a result, which is why DVC never sees them; what threads and device do
change is the rounding of tensor work, so weights are equal to the bit only where both are.
"""

import os
import signal
import sys
from functools import cache
from pathlib import Path

import yaml

from stemscribe.errors import UsageError

SEGMENTS = 16  # at full size about 10 GB with 13 channels
SETTINGS = {
    "workers": "processes for preparing data, and for predicting with a small model (default: the number of processors)",
    "threads": "threads of one process for tensor work (default: the number of processors)",
    "segments": "segments of 2.048 s that are transcribed together (default: 16)",
    "device": "cpu, cuda or auto (default: auto)",
    "downloads_dir": "where downloaded files are kept (default: work/downloads)",
    "raw_dir": "where archives are unpacked (default: work/raw)",
    "corpus_dir": "an already unpacked Slakh2100 or babyslakh tree (default: none)",
}


@cache
def _file_settings() -> dict[str, str]:
    path = Path("runtime.yaml")
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read runtime.yaml: {str(error).splitlines()[0]}; mend it or remove it") from error
    if not isinstance(content, dict):
        raise UsageError("runtime.yaml holds no settings; write lines such as `workers: 8`")
    unknown = sorted(set(map(str, content)) - set(SETTINGS))
    if unknown:
        raise UsageError(f"no setting {unknown[0]!r} in runtime.yaml; settings are {', '.join(SETTINGS)}")
    return {str(key): str(value) for key, value in content.items() if value is not None}


def _setting(name: str) -> str | None:
    return os.environ.get(_variable(name)) or _file_settings().get(name)


def _variable(name: str) -> str:
    return f"STEMSCRIBE_{name.upper()}"


def place(name: str) -> str:
    """Where the setting in force was made, for messages."""
    return _variable(name) if os.environ.get(_variable(name)) else f"{name} in runtime.yaml"


def _positive(name: str, default: int | None = None) -> int:
    value = _setting(name)
    if value is None and default is not None:
        return default
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f"{place(name)} is {value!r}; give a whole number of at least 1")
    return int(value)


def workers() -> int:
    """Processes for preparing data, and for predicting with a small model on a CPU."""
    return _positive("workers")


def threads() -> int:
    """Threads of one process for tensor work."""
    return _positive("threads")


def segments() -> int:
    """Segments that are transcribed together."""
    return _positive("segments", SEGMENTS)


def device() -> str:
    """Name of the torch device: `cpu` or `cuda`, decided here when the setting is `auto`."""
    value = _setting("device") or "auto"
    if value not in ("auto", "cpu", "cuda"):
        raise UsageError(f"{place('device')} is {value!r}; give cpu, cuda or auto")
    if value == "cpu":
        return value
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if value == "cuda":
        raise UsageError(f"{place('device')} is cuda, but torch finds no usable GPU; give cpu or auto")
    return "cpu"


def downloads_dir() -> Path:
    """Folder in which downloaded files are kept between runs."""
    return Path(_setting("downloads_dir") or "work/downloads")


def raw_dir() -> Path:
    """Folder into which corpus archives are unpacked."""
    return Path(_setting("raw_dir") or "work/raw")


def corpus_dir() -> Path | None:
    """An already unpacked corpus tree, if the user named one."""
    value = _setting("corpus_dir")
    return Path(value) if value else None


def end_with_parent(signal_number: int = signal.SIGTERM, parent: int | None = None) -> None:
    """On Linux, have this process sent a signal when the one that started it is killed; elsewhere nothing happens.

    Args:
        signal_number: which.
        parent: process that started this one; if it has died by now, this one ends at once.
    """
    if sys.platform != "linux":
        return
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if parent is not None and os.getppid() != parent:  # killed before it could be asked for
        os._exit(1)


def settle_torch(processes: int = 1) -> None:
    """Set torch's threads, and have freed memory kept for the next step: page faults cost a training step on a CPU a sixth.

    Args:
        processes: that share the threads.
    """
    import torch

    torch.set_num_threads(max(1, threads() // processes))
    if sys.platform != "linux":
        return
    import ctypes

    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # the GNU C library's
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
