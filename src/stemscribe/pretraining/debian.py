"""Debian packages as containers of data: downloaded by apt, unpacked into a folder and never installed."""

import subprocess
from pathlib import Path

from stemscribe import runtime
from stemscribe.errors import DataError


def download(package: str, folder: Path, wanted: str) -> Path:
    """Download a package into the empty `folder`.

    Args:
        package: as apt takes it, with or without a version: `freedoom=0.12.1-2`.
        folder: where the file goes.
        wanted: file that somebody without apt can put into the downloads folder instead; the message names it.
    Raises:
        DataError: if there is no apt, or it does not have the package.
    """
    try:
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, capture_output=True)
        (path,) = folder.glob("*.deb")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise DataError(
            f"cannot get {package} with apt-get ({_reason(error)}); put {wanted} into {runtime.downloads_dir()} by hand"
        ) from error
    return path


def unpack(package: Path, folder: Path) -> None:
    """Unpack the files of a package below `folder`.

    Raises:
        DataError: if there is no dpkg-deb, or the file is no package.
    """
    try:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True)
    except FileNotFoundError:
        raise DataError(f"cannot unpack {package}: there is no dpkg-deb; install dpkg") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataError(f"cannot unpack {package} with dpkg-deb ({_reason(error)}); remove the file and run again") from error


def _reason(error: Exception) -> str:
    said = (
        error.stderr.decode(errors="replace").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    )
    return said[-1] if said else str(error)
