"""Fetching one large file by its address, in as many attempts as it takes.

The promise: what stands under its final name was received to the last byte that the server announced, and a transfer that
broke off goes on where it stopped. Until then the file is called `<name>.part`, and `<name>.part.json` says how to recognise
it: its length, and what the server calls this version (a strong ETag, else Last-Modified). The rest is asked for under that
condition (`Range` with `If-Range`, RFC 9110 section 13.1.5), so that two versions are never joined; a server that cannot do
that sends it from the start.

A file whose sha256 is another than expected is refused, but it stays: whoever mistyped the hash need not fetch it again. It is
fetched anew when it is asked for by a hash that it does not have.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

import stemscribe
from stemscribe.atomic import sha256_file, write_json
from stemscribe.errors import DataError, StemscribeError, UsageError
from stemscribe.progress import track

BLOCK = 1_000_000  # bytes between two steps of the progress
TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces
PAUSES = (1.0, 4.0, 16.0)  # seconds before asking again, after attempts in a row that brought nothing
# Lengths are of the file itself, not of a compressed form.
HEADERS = {"User-Agent": f"stemscribe/{stemscribe.__version__}", "Accept-Encoding": "identity"}
SETTING = "STEMSCRIBE_DOWNLOADS_DIR"
BUSY = (408, 429, 500, 502, 503, 504)  # statuses that pass


@dataclass(frozen=True)
class Version:
    """What a server says of a file: enough to know whether it is the same one later."""

    total: int | None  # bytes
    validator: str  # for If-Range; empty if there is none


class _BrokenOff(Exception):
    """The transfer stopped for a reason that may pass."""


def is_address(text: str) -> bool:
    """Whether a text names something on a network and no file here."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def place_of(address: str, folder: Path) -> Path:
    """Where the file of an address is kept: under its own name with eight digits for the address, as many share a name."""
    name = PurePosixPath(re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(address).path)).name) or "download")
    return folder / f"{name.stem}-{hashlib.sha256(address.encode()).hexdigest()[:8]}{name.suffix}"


def fetch(address: str, folder: Path, sha256: str = "") -> Path:
    """The file of an address, fetched unless it is there already.

    Args:
        address: `https://` or `http://`.
        folder: where files are kept between runs; one process at a time fetches into it.
        sha256: what the file must be, hexadecimal; empty for whatever comes.

    Returns:
        Its path in `folder`.

    Raises:
        UsageError: if the address is none.
        DataError: if it cannot be had, is a web page, or is another file than expected.
        StemscribeError: if it cannot be written, or another process fetches into the folder.
    """
    if urlsplit(address).scheme.lower() not in ("https", "http") or not urlsplit(address).hostname:
        raise UsageError(f"cannot fetch {address}: it must begin with https:// or http:// and a host; name a file by its path")
    path = place_of(address, folder)
    with _alone_in(folder):
        if not path.is_file() or (sha256 and sha256_file(path) != sha256):
            part = path.with_name(f"{path.name}.part")
            _receive(address, part, path)
            part.replace(path)
            _note(part).unlink(missing_ok=True)
            if sha256 and (found := sha256_file(path)) != sha256:
                raise DataError(f"{address} is not what was expected: its sha256 is {found}, not {sha256}; it lies in {path}")
    return path


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two processes never write one file; refusals to write are explained."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(handle)
    except BlockingIOError:
        raise StemscribeError(f"another process downloads into {folder}; wait for it or stop it") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise StemscribeError(f"cannot write into {folder}: {reason}; make room, or name another place in {SETTING}") from error


def _receive(address: str, part: Path, path: Path) -> None:
    """Transfer until `part` is complete. Patience is for what began: if the very first answer fails, somebody should know."""
    failures, began = 0, False
    while True:
        before = _size(part)
        try:
            return _transfer(address, part, path)
        except _BrokenOff as error:
            grown = _size(part) > before
            began, failures = began or grown, 0 if grown else failures + 1
            if not began or failures > len(PAUSES):
                raise DataError(_broken_off(address, part, path, str(error))) from error.__cause__
            time.sleep(PAUSES[max(failures - 1, 0)])


def _transfer(address: str, part: Path, path: Path) -> None:
    """One attempt: go on from what is there if the server agrees, else from the start."""
    known = _read_note(part)
    have = _size(part) if known else 0
    if known and known.total is not None and have == known.total:
        return  # killed between the last byte and the new name
    if known and have and known.total is not None and known.validator:
        with _asked(address, {"Range": f"bytes={have}-", "If-Range": known.validator}) as response:
            if response.status_code == requests.codes.partial and _is_the_rest(response, have, known):
                return _write(response, part, have, known.total)
            if response.status_code == requests.codes.ok:
                return _from_the_start(address, response, part, path)
            if response.status_code not in (requests.codes.partial, requests.codes.requested_range_not_satisfiable):
                _refuse(address, response, path)
    with _asked(address, {}) as response:
        if response.status_code != requests.codes.ok:
            _refuse(address, response, path)
        _from_the_start(address, response, part, path)


@contextmanager
def _asked(address: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
    """The server's answer; what may pass, here or while its content is read, becomes `_BrokenOff`."""
    try:
        with requests.get(address, headers={**HEADERS, **headers}, stream=True, timeout=TIMEOUTS) as response:
            yield response
    except requests.exceptions.SSLError as error:
        raise DataError(f"{_host(address)} cannot be trusted ({_reason(error)}); check the address and the clock") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenOff(_reason(error)) from error
    except requests.RequestException as error:
        raise DataError(f"cannot fetch {address}: {_reason(error)}; check the address") from error


def _from_the_start(address: str, response: requests.Response, part: Path, path: Path) -> None:
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise DataError(f"{address} is a web page and not the file itself; give the address that its download link has")
    version = _version(response)
    if version.total is not None and version.total > (free := shutil.disk_usage(part.parent).free + _size(part)):
        raise StemscribeError(
            f"{path.name} takes {version.total / 1e6:.0f} MB, and {part.parent} has {free / 1e6:.0f} MB free; "
            f"make room, or name another place in {SETTING}"
        )
    part.write_bytes(b"")  # before the note, which would else speak of other bytes
    write_json(_note(part), asdict(version))
    _write(response, part, 0, version.total)


def _write(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    """Append the answer's content to the `start` bytes that are there."""
    name, steps = part.name.removesuffix(".part"), None
    title = f"downloading {name}"
    if total is not None:
        steps = -(-(total - start) // BLOCK)
        title += f", the last {steps} of {total / 1e6:.0f} MB" if start else ""
    with part.open("ab") as stream:
        for block in track(response.iter_content(BLOCK), title, steps, "MB"):
            stream.write(block)
    if total is not None and (size := _size(part)) != total:
        if size > total:
            _note(part).unlink(missing_ok=True)
        raise _BrokenOff(f"{size} bytes came instead of {total}")


def _refuse(address: str, response: requests.Response, path: Path) -> None:
    """Say what a status other than success means; never returns."""
    status = f"{response.status_code} {response.reason or ''}".strip()
    if response.status_code in BUSY:
        raise _BrokenOff(f"the server says {status}")
    raise DataError(f"cannot fetch {address}: the server says {status}; check it, or put the file there by hand: {path}")


def _version(response: requests.Response) -> Version:
    """A weak ETag says that two versions are as good as each other, not that their bytes are equal."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return Version(None, "")
    length, etag = headers.get("Content-Length", ""), headers.get("ETag", "")
    total = int(length) if length.isdecimal() else None
    return Version(total, etag if etag.startswith('"') else headers.get("Last-Modified", ""))


def _is_the_rest(response: requests.Response, have: int, known: Version) -> bool:
    """Whether a partial answer is of the same version, begins where we stopped and ends where the file did."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
    if match is None or _version(response).validator not in ("", known.validator):
        return False
    first, last, total = map(int, match.groups())
    return first == have and last == total - 1 and total == known.total


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> Version | None:
    try:
        content: Any = json.loads(_note(part).read_text(encoding="utf-8"))
        version = Version(**content)
    except (OSError, ValueError, TypeError):
        return None  # without it, what is there cannot be told from another version
    known = (version.total is None or type(version.total) is int) and isinstance(version.validator, str)
    return version if known else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _broken_off(address: str, part: Path, path: Path, reason: str) -> str:
    if _size(part):
        return f"the download of {address} stopped at {_size(part) / 1e6:.1f} MB ({reason}); run again to go on from there"
    return f"nothing comes from {_host(address)} ({reason}); go online once, or put the file there by hand: {path}"


def _reason(error: BaseException) -> str:
    """The innermost cause in a line: "Connection refused" instead of the three errors around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
