"""Write beside, then rename: a reader sees the whole result or none of it.

What a killed process leaves behind is a sibling named `.<name>.partial`, which the next writer of the same name removes.

A file takes the place of another in one step. A folder cannot: POSIX renames none over one that holds something, so the old
one is renamed to `.<name>.replaced.partial` first and removed last. Whoever is killed between the two renames leaves both the
old and the new result whole; the next writer of the same name puts the old one back before it begins.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemscribe.errors import StemscribeError


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced.partial")


def refusal(path: str | os.PathLike[str], reason: str) -> StemscribeError:
    """What is said when `path` cannot be written, with the way out."""
    return StemscribeError(f"cannot write {path}: {reason}; free some space or check the permissions, then run again")


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """Explain that `path` cannot be written, for libraries that write there by themselves.

    Raises:
        StemscribeError: if the operating system refuses (disk full, no permission).
    """
    try:
        yield
    except OSError as error:
        raise _explain(error, Path(path)) from error


def _explain(error: OSError, path: Path) -> Exception:
    """A refusal to write, in one line with the way out; any other error (of reading something else, say) as it is."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # copytree's, of all its files: (from, to, reason)
        return refusal(path, error.args[0][0][2])
    place = Path(str(error.filename)) if error.filename else None
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    ours = place is not None and (place.is_relative_to(_partial(path)) or path.is_relative_to(place))
    if not full and not ours:
        return error
    return refusal(path, error.strerror or str(error))


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a sibling path to write to; it takes the place of `path` when the block ends without an error.

    Raises:
        StemscribeError: if the operating system refuses (disk full, no permission).
    """
    target = Path(path)
    partial = _partial(target)
    with _no_leftovers(target, partial):
        yield partial
        partial.replace(target)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty sibling folder to fill; it takes the place of `path` when the block ends without an error.

    Raises:
        StemscribeError: if the operating system refuses (disk full, no permission).
    """
    target = Path(path)
    partial = _partial(target)
    with _no_leftovers(target, partial):
        _put_back(target)
        partial.mkdir()
        yield partial
        try:
            if os.path.lexists(target):
                target.replace(_replaced(target))
            partial.replace(target)
        finally:
            _put_back(target)


@contextmanager
def _no_leftovers(target: Path, partial: Path) -> Iterator[None]:
    """Before and after the block there is nothing at `partial`; refusals to write `target` are explained."""
    try:
        with refusals(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            yield
    finally:
        _remove(partial)


def _put_back(target: Path) -> None:
    """Of a folder that was being replaced, one is left: the new one if it is in its place, else the old one."""
    old = _replaced(target)
    if os.path.lexists(old) and not os.path.lexists(target):
        old.replace(target)
    _remove(old)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # the refusal that brought us here is the one worth reporting


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, atomically; keys keep their order."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
